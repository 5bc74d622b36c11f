target_link_libraries(${target} PUBLIC postern_api_istio PRIVATE nlohmann_json::nlohmann_json)
