target_link_libraries(${target} PUBLIC ${POSTERN_FMT})
