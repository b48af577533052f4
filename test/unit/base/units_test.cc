#include <catch2/catch.hpp>

#include "base/base.h"

using namespace vmhost;

TEST_CASE("sizes read as scan_scaled(3)") {
    CHECK(parse_size("512M").value() == 512 * MiB);
    CHECK(parse_size(" +1g").value() == GiB);
    CHECK(parse_size("1.5K").value() == 1536);
    CHECK(parse_size("1.9").value() == 1); // a fraction without suffix is discarded
    CHECK(parse_size("0").value() == 0);
    CHECK(parse_size("15E").value() == 15ULL << 60);
    for (auto bad : {"", "M", "1Mi", "1MB", "1e3", "x", "1 M", "."})
        CHECK(parse_size(bad).error().kind() == ErrorKind::invalid);
    CHECK(parse_size("-1").error().kind() == ErrorKind::invalid);
    CHECK(parse_size("16E").error().kind() == ErrorKind::limit);
    CHECK(parse_size("99999999999999999999").error().kind() == ErrorKind::limit);
}

TEST_CASE("sizes print as fmt_scaled(3)") {
    CHECK(format_size(0) == "0B");
    CHECK(format_size(1023) == "1023B");
    CHECK(format_size(GiB) == "1.0G");
    CHECK(format_size(4 * GiB + 512 * MiB) == "4.5G");
    CHECK(format_size(512 * MiB) == "512M");
    CHECK(format_size(64 * MiB) == "64.0M");
}

TEST_CASE("exact sizes are read back as they were") {
    CHECK(exact_size(0) == "0");
    CHECK(exact_size(1025) == "1025");
    CHECK(exact_size(1536 * KiB) == "1536K");
    CHECK(exact_size(512 * MiB) == "512M");
    CHECK(exact_size(1024 * GiB) == "1T");
    for (std::uint64_t bytes : {KiB, 3 * MiB + KiB, 50 * GiB, 1 + GiB})
        CHECK(parse_size(exact_size(bytes)).value() == bytes);
}

TEST_CASE("durations need a unit") {
    CHECK(parse_duration("30s").value() == std::chrono::seconds(30));
    CHECK(parse_duration("250ms").value() == std::chrono::milliseconds(250));
    CHECK(parse_duration("2d").value() == std::chrono::hours(48));
    for (auto bad : {"", "30", "s", "1.5s", "30 s", "1w", "-1s"})
        CHECK_FALSE(parse_duration(bad));
    CHECK(parse_duration("4000d").error().kind() == ErrorKind::limit);
    CHECK(format_duration(std::chrono::milliseconds(1500)) == "1500ms");
    CHECK(format_duration(std::chrono::seconds(30)) == "30s");
    CHECK(format_duration(std::chrono::minutes(120)) == "2h");
}

TEST_CASE("names follow vmd's rule") {
    CHECK(check_name("vm13"));
    CHECK(check_name("4ever.and-a_day"));
    for (auto bad : {"", ".a", "-a", "_a", "a b", "a/b", "a\n"})
        CHECK_FALSE(check_name(bad));
    CHECK(check_name(std::string(63, 'a')));
    CHECK(check_name(std::string(64, 'a')).error().kind() == ErrorKind::limit);
}

TEST_CASE("the nearest name is suggested only when it is near") {
    std::vector<std::string_view> keys{"memory", "disk", "interface"};
    CHECK(nearest("memroy", keys) == "memory");
    CHECK(nearest("dsik", keys) == "disk");
    CHECK(nearest("zebra-crossing", keys).empty());
}
