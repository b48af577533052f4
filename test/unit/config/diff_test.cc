// What two files disagree on, named by key and place.
#include <catch2/catch.hpp>

#include "config/config.h"
#include "helpers.h"

using namespace vmhost;
using namespace vmhost::config;

namespace {

Model model(const std::string& text) {
    auto parsed = parse(text, "t.toml");
    INFO((parsed ? std::string() : parsed.error().front().message()));
    REQUIRE(parsed);
    return std::move(*parsed);
}

std::vector<std::string> told(const std::string& before, const std::string& after) {
    std::vector<std::string> out;
    for (const auto& one : differences(model(before), model(after))) {
        auto sign = one.kind == Difference::Kind::added     ? '+'
                    : one.kind == Difference::Kind::removed ? '-'
                                                            : '~';
        out.push_back(
            fmt::format("{}{} {} > {} :{}", sign, one.key, one.before, one.after, one.place.line));
    }
    return out;
}

using Lines = std::vector<std::string>;

constexpr const char* two = R"([host]
name = "h"

[switch.lan]
ipv4 = "10.9.8.1/24"

[vm.a]
memory = "512M"
disk = [{ path = "a.img", size = "1G" }]
interface = [{ switch = "lan", lladdr = "fe:e1:bb:00:00:01", ipv4 = "10.9.8.5" }]

[vm.b]
)";

std::string with(std::string_view from, std::string_view to) {
    std::string text = two;
    auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

} // namespace

TEST_CASE("equal files differ in nothing, wherever they say it") {
    CHECK(told(two, two).empty());
    CHECK(told(two, std::string("# a comment\n\n") + two).empty());
    CHECK(told(two, with("memory = \"512M\"\n", "")).empty()); // the default
}

TEST_CASE("a changed key is named with both values and its place") {
    CHECK(told(two, with("512M", "1G")) == Lines{R"(~vm.a.memory "512M" > "1G" :8)"});
    CHECK(told(two, with("a.img", "c.img")) == Lines{R"(~vm.a.disk[0].path "a.img" > "c.img" :9)"});
    CHECK(told(two, with("10.9.8.5", "10.9.8.6")) ==
          Lines{R"(~vm.a.interface[0].ipv4 "10.9.8.5" > "10.9.8.6" :10)"});
}

TEST_CASE("a key that came or went, and whole tables") {
    CHECK(told(two, with("memory = ", "cpu_weight = 50\nmemory = ")) ==
          Lines{"+vm.a.cpu_weight  > 50 :8"});
    CHECK(told(with("memory = ", "cpu_weight = 50\nmemory = "), two) ==
          Lines{"-vm.a.cpu_weight 50 >  :7"});
    CHECK(told(two, with("[vm.b]", "[vm.c]")) == Lines{"+vm.c  >  :12", "-vm.b  >  :0"});
    CHECK(told(two, with("\ninterface", "\ncdrom = \"x.iso\"\ninterface")) ==
          Lines{R"(+vm.a.cdrom  > "x.iso" :10)"});
    CHECK(told(two, with("size = \"1G\" }", "size = \"1G\" }, { path = \"d.img\" }")) ==
          Lines{"+vm.a.disk[1]  >  :9"});
}

TEST_CASE("secrets are not told") {
    auto line = [](const char* password) {
        return std::string(two) + "install = { password = \"" + password + "\" }\n";
    };
    CHECK(told(line("one"), line("two")) ==
          Lines{"~vm.b.install.password (secret) > (secret) :13"});
}
