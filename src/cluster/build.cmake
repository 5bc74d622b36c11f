target_link_libraries(${target} PUBLIC nlohmann_json::nlohmann_json PRIVATE ${POSTERN_FMT})
target_compile_definitions(${target} PRIVATE POSTERN_VERSION="${PROJECT_VERSION}")
