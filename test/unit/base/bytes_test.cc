#include <catch2/catch.hpp>

#include "base/base.h"

using namespace vmhost;

TEST_CASE("a reader past the end yields zeros and says so") {
    std::uint8_t data[] = {1, 2, 3};
    ByteReader reader{Bytes(data)};
    CHECK(reader.be<std::uint16_t>() == 0x0102);
    CHECK(reader.ok());
    CHECK(reader.le<std::uint32_t>() == 0);
    CHECK_FALSE(reader.ok());
    CHECK(reader.le<std::uint8_t>() == 0); // the last byte is not handed out after a failure
}

TEST_CASE("range_fits does not overflow") {
    CHECK(range_fits(0, 10, 10));
    CHECK_FALSE(range_fits(1, 10, 10));
    CHECK_FALSE(range_fits(UINT64_MAX, 1, 10));
    CHECK_FALSE(range_fits(5, UINT64_MAX, 10));
    CHECK(range_fits(10, 0, 10));
}

TEST_CASE("text from outside is made printable") {
    CHECK(printable("plain-name.1") == "plain-name.1");
    CHECK(printable("a\x1b[2Jb\"\\\n") == "a\\x1b[2Jb\\x22\\x5c\\x0a");
    CHECK(printable(std::string(300, 'x'), 10) == "xxxxxxxxxx…");
}

TEST_CASE("errors carry their place and their kind") {
    auto error = Error(ErrorKind::invalid, "no such key").at({"a.toml", 3, 7});
    CHECK(error.message() == "a.toml:3:7: no such key");
    CHECK(Error::system(ENOENT, "open x").kind() == ErrorKind::not_found);
    CHECK(Error::system(EADDRINUSE, "bind").kind() == ErrorKind::busy);
}
