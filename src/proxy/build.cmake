target_link_libraries(${target} PRIVATE PkgConfig::RE2)
# Envoy's deprecated fields are still sent and are honoured.
target_compile_options(${target} PRIVATE -Wno-deprecated-declarations)
