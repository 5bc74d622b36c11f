# Header blocks of SPDY/3.1.
target_link_libraries(${target} PRIVATE ZLIB::ZLIB)
