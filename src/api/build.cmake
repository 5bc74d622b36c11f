target_link_libraries(${target} PUBLIC postern_api_envoy PRIVATE nlohmann_json::nlohmann_json)
