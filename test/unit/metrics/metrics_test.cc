// The registry keeps to the conventions and to its man page; the text is the format to the letter.
#include <catch2/catch.hpp>

#include <fstream>
#include <set>

#include "metrics/metrics.h"

using namespace vmhost;
using namespace vmhost::metrics;

namespace {

bool is_name(std::string_view text) {
    return !text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789") ==
                                std::string_view::npos;
}

} // namespace

TEST_CASE("every metric is named by the conventions") {
    std::set<std::string_view> names;
    for (const auto& family : families()) {
        INFO(family.name);
        CHECK(names.insert(family.name).second);
        CHECK(family.name.starts_with("vmhost_"));
        CHECK(is_name(family.name));
        CHECK(family.name.ends_with("_total") == (family.kind == Kind::counter));
        for (auto unit : {"_ms", "_us", "_milliseconds", "_kb", "_mib", "_percent", "_pct"})
            for (auto end : {"", "_total"})
                CHECK_FALSE(family.name.ends_with(std::string(unit) + end));
        CHECK(family.help.ends_with("."));
        CHECK(family.help.find('\n') == std::string_view::npos);
        CHECK(&family_of(family.metric) == &family);
        bool over = false;
        for (auto label : family.labels) {
            CHECK((label.empty() || (is_name(label) && !over)));
            over |= label.empty();
        }
        CHECK(family.name.starts_with("vmhost_vm_") == (family.labels[0] == "vm"));
        CHECK(family.name.starts_with("vmhost_role_") == (family.labels[0] == "role"));
    }
}

// ".It Li vmhost_vm_exits_total Ns Brq Ar vm , kind" below ".Ss", in the order of the table.
TEST_CASE("vmhost-metrics(5) has exactly the metrics of the registry") {
    std::ifstream page(std::string(VMHOST_SOURCE_ROOT) + "/man/vmhost-metrics.5");
    REQUIRE(page);
    std::vector<std::string> there, wanted;
    for (std::string line; std::getline(page, line);)
        if (line.starts_with(".It Li vmhost_"))
            there.push_back(line.substr(7));
    for (const auto& family : families()) {
        auto& line = wanted.emplace_back(family.name);
        for (std::size_t i = 0; i < family.labels.size() && !family.labels[i].empty(); ++i)
            line.append(i == 0 ? " Ns Brq Ar " : " , ").append(family.labels[i]);
    }
    CHECK(there == wanted);
}

TEST_CASE("the text has a head for each family and a line for each sample") {
    Samples samples;
    CHECK(text(samples).empty());
    samples.add(Metric::vm_exits_total, {"a", "port"}, 7);
    samples.add(Metric::plans_total, 3);
    samples.add(Metric::vm_exits_total, {"b", "other"}, 18446744073709551615.0);
    samples.add(Metric::vm_cpu_seconds_total, {"a"}, 0.25);
    CHECK(text(samples) ==
          "# HELP vmhost_plans_total Plans that were asked for.\n"
          "# TYPE vmhost_plans_total counter\n"
          "vmhost_plans_total 3\n"
          "# HELP vmhost_vm_cpu_seconds_total Processor time that the VM's process has used.\n"
          "# TYPE vmhost_vm_cpu_seconds_total counter\n"
          "vmhost_vm_cpu_seconds_total{vm=\"a\"} 0.25\n"
          "# HELP vmhost_vm_exits_total Exits from the guest to its process, by what it wanted.\n"
          "# TYPE vmhost_vm_exits_total counter\n"
          "vmhost_vm_exits_total{vm=\"a\",kind=\"port\"} 7\n"
          "vmhost_vm_exits_total{vm=\"b\",kind=\"other\"} 1.8446744073709552e+19\n");
}

TEST_CASE("nothing in a label or a help text breaks out of its line") {
    Family family{Metric::plans_total, "x", Kind::gauge, "back\\slash, \"quote\",\nline", {"l"}};
    std::string out;
    append_head(out, family);
    CHECK(out == "# HELP x back\\\\slash, \"quote\",\\nline\n# TYPE x gauge\n");
    out.clear();
    append_sample(out, family, {{"a\\b\"c\nd\re\x01\xff"}, 1});
    CHECK(out == "x{l=\"a\\\\b\\\"c\\nd?e??\"} 1\n");
}

TEST_CASE("numbers are exact as far as a reader's are") {
    CHECK(number(0) == "0");
    CHECK(number(-1) == "-1");
    CHECK(number(9007199254740992.0) == "9007199254740992");
    CHECK(number(1763764200.125) == "1763764200.125");
    CHECK(std::stod(number(0.1)) == 0.1);
}
