# The WebSocket handshake's SHA-1.
target_link_libraries(${target} PRIVATE OpenSSL::Crypto)
