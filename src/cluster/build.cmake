target_link_libraries(${target} PUBLIC nlohmann_json::nlohmann_json PRIVATE fmt::fmt)
target_compile_definitions(${target} PRIVATE POSTERN_VERSION="${PROJECT_VERSION}")
