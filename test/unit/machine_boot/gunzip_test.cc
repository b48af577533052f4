#include <catch2/catch.hpp>

#include "images.h"
#include "machine/boot/gunzip.h"

using namespace vmhost;
using namespace vmhost::machine::boot;
using namespace vmhost::machine::boot::test;
using Catch::Matchers::Contains;

TEST_CASE("gzip data unpacks up to the limit and not beyond") {
    auto plain = pattern(3 * MiB, 1);
    auto packed = gzip(plain);
    auto whole = gunzip(packed, plain.size());
    REQUIRE(whole);
    CHECK(*whole == plain);
    auto beyond = gunzip(packed, plain.size() - 1);
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().kind() == ErrorKind::limit);
    CHECK(gunzip(gzip({}), 0)->empty());
}

TEST_CASE("gzip data cut at any length is truncated") {
    auto packed = gzip(pattern(2000, 1));
    for (std::size_t length = 0; length < packed.size(); ++length) {
        Buffer cut(packed.begin(), packed.begin() + static_cast<std::ptrdiff_t>(length));
        INFO(length);
        auto result = gunzip(cut, MiB);
        REQUIRE_FALSE(result);
        CHECK(result.error().kind() == ErrorKind::corrupt);
        CHECK_THAT(result.error().text(), Contains("truncated"));
    }
}

TEST_CASE("damaged gzip data is found by its checksum") {
    auto packed = gzip(pattern(2000, 1));
    packed[packed.size() - 6] ^= 1;
    CHECK_THAT(error_of(gunzip(packed, MiB)), Contains("damaged"));
    auto header = gzip(pattern(2000, 1));
    header[2] = 7; // no such method
    CHECK_THAT(error_of(gunzip(header, MiB)), Contains("damaged"));
}

TEST_CASE("bytes behind the gzip member are ignored") {
    auto packed = gzip(pattern(2000, 1));
    packed.insert(packed.end(), 1000, 0x55);
    CHECK(gunzip(packed, MiB).value() == pattern(2000, 1));
}

TEST_CASE("a gzip'd file that is no ELF kernel is refused") {
    auto packed = gzip(LinuxBuilder().build());
    auto memory = guest(64 * MiB);
    CHECK(error_of(load(*memory, request(packed))) ==
          "kernel /bsd: is gzip'd, but holds no ELF kernel");
}
