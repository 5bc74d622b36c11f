target_link_libraries(${target} PUBLIC OpenSSL::SSL OpenSSL::Crypto)
