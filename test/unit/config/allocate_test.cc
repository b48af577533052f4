// [allocate]: what is refused, and that the rest comes back as it was written.
#include "helpers.h"

using namespace vmhost;
using namespace vmhost::config;

namespace {

const std::string lan = "[switch.lan]\nipv4 = \"46.23.93.1/24\"\nipv6 = \"2a03:6000:6f64::1/48\"\n";

} // namespace

TEST_CASE("an [allocate] table is read, printed and read again") {
    auto model = good(lan + "[allocate]\nswitch = \"lan\"\nmac_prefix = \"fe:e1:bb:f1:c8\"\n"
                            "ipv4_start = \"46.23.93.100\"\n"
                            "ipv6_prefix = \"2a03:6000:6f64::/48\"\nipv6_start = 600\n"
                            "images = \"/var/vmm\"\nboot = \"/bsd.rd\"\nmemory = \"1G\"\n"
                            "disk = \"20G\"\nformat = \"raw\"\naccounts = false\n"
                            "group = \"_vmdusers\"\ngrace_days = 7\n"
                            "install = { sets = \"+site*\", answers = { \"A b\" = \"c\" } }\n");
    CHECK(model.allocate.switch_name == "lan");
    CHECK(model.allocate.ipv4_start->text() == "46.23.93.100");
    CHECK(model.allocate.ipv6_start == 600);
    CHECK(model.allocate.disk_bytes == 20 * GiB);
    CHECK(model.allocate.format == ImageFormat::raw);
    CHECK_FALSE(model.allocate.accounts);
    CHECK(good(print(model)).allocate == model.allocate);
    auto install = model.allocate.install;
    install.user = "x\"y";
    CHECK(install_lines(install) ==
          "user = \"x\\\"y\"\nsets = \"+site*\"\nanswers = { \"A b\" = \"c\" }\n");
    auto other = model;
    other.allocate.grace_days = 8;
    auto changed = differences(model, other);
    REQUIRE(changed.size() == 1);
    CHECK(changed[0].key == "allocate.grace_days");
}

TEST_CASE("an [allocate] table that no order could be carried out with is refused") {
    auto complaint = [](const std::string& keys) { return bad(lan + "[allocate]\n" + keys); };
    CHECK(complaint("switch = \"wan\"") ==
          "t.toml:5:10: allocate.switch: there is no switch \"wan\"");
    CHECK(complaint("ipv4_start = \"46.23.93.1\"").find("\"switch\" is missing") !=
          std::string::npos);
    CHECK(complaint("switch = \"lan\"\nipv4_start = \"46.23.94.1\"")
              .find("is not inside 46.23.93.1/24") != std::string::npos);
    CHECK(complaint("switch = \"lan\"\nipv6_prefix = \"2001:db8::/48\"").find("is not inside") !=
          std::string::npos);
    CHECK(complaint("switch = \"lan\"\nipv6_prefix = \"2a03:6000:6f64::/64\"").find("48 to 56") !=
          std::string::npos);
    for (auto prefix :
         {"fc:e1:bb:f1:c", "00:e1:bb:f1:c8", "ff:e1:bb:f1:c8", "fe:e1:bb", "zz:e1:bb:f1"})
        CHECK(complaint(fmt::format("mac_prefix = \"{}\"", prefix)) != "");
    CHECK(complaint("mac_prefix = \"fe:e1:bb:f1\"") == "");
    CHECK(complaint("format = \"zst\"") != "");
    CHECK(complaint("ipv6_start = 10000") != "");
}
