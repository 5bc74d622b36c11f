target_link_libraries(${target} PRIVATE nlohmann_json::nlohmann_json ${POSTERN_FMT})
target_compile_definitions(${target} PRIVATE POSTERN_VERSION="${PROJECT_VERSION}")
# deploy/ travels inside the program, so that `postern install` needs no files.
file(GLOB POSTERN_MANIFESTS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/deploy/*.yaml ${CMAKE_SOURCE_DIR}/deploy/*/*.yaml)
string(REPLACE ";" "|" POSTERN_MANIFEST_LIST "${POSTERN_MANIFESTS}")
set(POSTERN_MANIFESTS_CC ${CMAKE_BINARY_DIR}/embedded_manifests.cc)
add_custom_command(OUTPUT ${POSTERN_MANIFESTS_CC}
  COMMAND ${CMAKE_COMMAND} -DOUT=${POSTERN_MANIFESTS_CC} -DROOT=${CMAKE_SOURCE_DIR}/deploy
    "-DFILES=${POSTERN_MANIFEST_LIST}" -P ${CMAKE_SOURCE_DIR}/cmake/EmbedFiles.cmake
  DEPENDS ${POSTERN_MANIFESTS} ${CMAKE_SOURCE_DIR}/cmake/EmbedFiles.cmake VERBATIM)
# Its literals are longer than every compiler need take; those that build this do.
set_source_files_properties(${POSTERN_MANIFESTS_CC} PROPERTIES
  COMPILE_OPTIONS -Wno-overlength-strings SKIP_UNITY_BUILD_INCLUSION ON)
target_sources(${target} PRIVATE ${POSTERN_MANIFESTS_CC})
