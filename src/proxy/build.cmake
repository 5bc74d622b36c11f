target_link_libraries(${target} PRIVATE PkgConfig::RE2)
