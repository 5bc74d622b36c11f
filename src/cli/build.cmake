target_link_libraries(${target} PRIVATE nlohmann_json::nlohmann_json fmt::fmt)
target_compile_definitions(${target} PRIVATE POSTERN_VERSION="${PROJECT_VERSION}")
