#include <catch2/catch.hpp>

#include <map>

#include "host/kernel_advice.h"

using namespace vmhost;
using namespace vmhost::host;

namespace {

config::Model model_with(unsigned guests, std::string_view keys) {
    auto text = fmt::format("[switch.lan]\n{}\n", keys);
    for (unsigned i = 0; i < guests; ++i)
        text += fmt::format("[vm.v{}]\ninterface = [{{ switch = \"lan\" }}]\n", i);
    auto model = config::parse(text, "t.toml");
    REQUIRE(model);
    return *std::move(model);
}

std::vector<std::string> lines(const config::Model& model,
                               std::map<std::string, std::uint64_t> have) {
    std::vector<std::string> out;
    for (const auto& one : kernel_advice(model, [&](const std::string& key) {
             auto found = have.find(key);
             return found == have.end() ? std::nullopt : std::optional(found->second);
         }))
        out.push_back(one.line());
    return out;
}

std::map<std::string, std::uint64_t> usual() {
    std::map<std::string, std::uint64_t> out{{"net.ipv4.ip_forward", 1},
                                             {"net.ipv6.conf.all.forwarding", 1}};
    for (std::string family : {"ipv4", "ipv6"}) {
        auto key = "net." + family + ".neigh.default.";
        out[key + "gc_thresh1"] = 128;
        out[key + "gc_thresh2"] = 512;
        out[key + "gc_thresh3"] = 1024;
        out[key + "unres_qlen_bytes"] = 212'992;
    }
    return out;
}

using Lines = std::vector<std::string>;

} // namespace

TEST_CASE("a kernel as it comes is good for a few guests") {
    CHECK(lines(model_with(50, "ipv4 = \"10.0.0.1/16\"\nipv6 = \"2001:db8::1/64\""), usual()) ==
          Lines{});
    CHECK_FALSE(text_of({}));
}

TEST_CASE("many guests want larger neighbour tables") {
    CHECK(lines(model_with(300, "ipv4 = \"10.0.0.1/16\""), usual()) ==
          Lines{"net.ipv4.neigh.default.gc_thresh1=512"});
    CHECK(lines(model_with(600, "ipv4 = \"10.0.0.1/16\""), usual()) ==
          Lines{"net.ipv4.neigh.default.gc_thresh1=1024", "net.ipv4.neigh.default.gc_thresh2=2048",
                "net.ipv4.neigh.default.gc_thresh3=4096"});
    auto six = lines(model_with(300, "ipv6 = \"2001:db8::1/64\""), usual());
    REQUIRE(six.size() == 3);
    CHECK(six[2] == "net.ipv6.neigh.default.gc_thresh3=4096");
    // On a switch that is not there they are nobody's neighbours.
    CHECK(lines(model_with(600, "enable = false\nipv4 = \"10.0.0.1/16\""), usual()) == Lines{});
}

TEST_CASE("a router that does not forward is told of, with the line that mends it") {
    auto have = usual();
    have["net.ipv4.ip_forward"] = have["net.ipv6.conf.all.forwarding"] = 0;
    auto both = "ipv4 = \"10.0.0.1/24\"\nipv6 = \"2001:db8::1/64\"\n";
    auto model = model_with(1, both);
    CHECK(lines(model, have) == Lines{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"});
    auto text = text_of(kernel_advice(model, [](const std::string& key) {
        return std::optional<std::uint64_t>(key == "net.ipv4.ip_forward" ? 0 : 1'000'000);
    }));
    CHECK(text == "this kernel's settings do not suit the guests: guests have this host for their "
                  "router (net.ipv4.ip_forward is 0). As root: sysctl -w net.ipv4.ip_forward=1");
    // Another one is their router.
    CHECK(lines(model_with(1, std::string(both) + "dhcp = { routers = [\"10.0.0.254\"] }\n"
                                                  "ra = { router = false }"),
                have) == Lines{});
    have = usual();
    have["net.ipv4.neigh.default.unres_qlen_bytes"] = 4096;
    CHECK(lines(model, have) == Lines{"net.ipv4.neigh.default.unres_qlen_bytes=212992"});
    CHECK(lines(model, {}) == Lines{}); // a kernel that has none of them
}

TEST_CASE("the kernel's own settings can be read") {
    CHECK(read_kernel_setting("net.ipv4.ip_forward"));
    CHECK_FALSE(read_kernel_setting("net.ipv4.no_such_setting"));
}
