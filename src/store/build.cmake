target_link_libraries(${target} PRIVATE PkgConfig::SQLITE PUBLIC nlohmann_json::nlohmann_json)
