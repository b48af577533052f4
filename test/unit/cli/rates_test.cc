// What vmctl top makes of two looks at the VMs.
#include <catch2/catch.hpp>

#include "cli/rates.h"

using namespace vmhost::cli;
using nlohmann::json;

namespace {

Sample sample(unsigned id, const char* name, unsigned pid) {
    Sample made;
    made.id = id;
    made.name = name;
    made.state = "running";
    made.pid = pid;
    made.memory_bytes = 1 << 20;
    return made;
}

std::vector<std::string> names(const std::vector<Rates>& rates) {
    std::vector<std::string> out;
    for (const auto& one : rates)
        out.push_back(one.name);
    return out;
}

} // namespace

TEST_CASE("a row of status becomes sums over all devices") {
    auto made = sample_of(json::parse(R"({
        "id": 3, "name": "a", "state": "running", "pid": 42, "current_memory_bytes": 4096,
        "cpu_us": 1500000, "counters": {"port_exits": 1, "memory_exits": 2, "other_exits": 4,
                                        "unknown_msrs": 800},
        "disks": [{"reads": 1, "read_bytes": 512, "writes": 2, "written_bytes": 1024, "flushes": 3},
                  {"reads": 10, "read_bytes": 5120}],
        "interfaces": [{"received_frames": 1, "received_bytes": 60, "sent_frames": 2,
                        "sent_bytes": 120, "receive_dropped": 9}]})"));
    CHECK(made.id == 3);
    CHECK(made.pid == 42U);
    CHECK(made.memory_bytes == 4096);
    CHECK(made.cpu_us == 1'500'000);
    CHECK(made.exits == 7);
    CHECK(made.disk_read_bytes == 5632);
    CHECK(made.disk_written_bytes == 1024);
    CHECK(made.disk_operations == 16);
    CHECK(made.net_received_bytes == 60);
    CHECK(made.net_sent_bytes == 120);
    CHECK(made.net_frames == 3);
}

TEST_CASE("a row without figures, or with odd ones, is zeros") {
    for (auto text : {R"({})", R"({"pid": null, "cpu_us": -1, "disks": {}, "counters": []})",
                      R"({"disks": [1, {"reads": "x"}], "interfaces": null})"}) {
        INFO(text);
        auto made = sample_of(json::parse(text));
        CHECK_FALSE(made.pid);
        CHECK(made.cpu_us + made.exits + made.disk_operations + made.net_frames == 0);
    }
}

TEST_CASE("rates are differences by time") {
    auto before = sample(1, "a", 42), now = before;
    before.cpu_us = 1'000'000;
    now.cpu_us = 2'500'000;
    now.disk_read_bytes = 4096;
    now.net_frames = 7;
    now.exits = 1000;
    auto rates = rates_between({before}, {now}, 2.0);
    REQUIRE(rates.size() == 1);
    CHECK(rates[0].cpu_pct == Approx(75));
    CHECK(rates[0].disk_read_bytes == Approx(2048));
    CHECK(rates[0].net_frames == Approx(3.5));
    CHECK(rates[0].exits == Approx(500));
    CHECK(rates[0].disk_written_bytes == 0);
}

TEST_CASE("a new process counts from nothing, and counters never run backwards") {
    auto before = sample(1, "a", 42), now = sample(1, "a", 43);
    before.exits = 1000;
    now.exits = 10;
    CHECK(rates_between({before}, {now}, 1.0)[0].exits == Approx(10));
    now.pid = 42;
    CHECK(rates_between({before}, {now}, 1.0)[0].exits == 0);
    // One that came, and one that went.
    auto rates = rates_between({before}, {sample(2, "b", 50)}, 1.0);
    CHECK(names(rates) == std::vector<std::string>{"b"});
}

TEST_CASE("the order is by one figure, greatest first, then by name") {
    std::vector<Rates> rates(3);
    rates[0].name = "c";
    rates[1].name = "a";
    rates[2].name = "b";
    sort_rates(rates, TopOrder::cpu);
    CHECK(names(rates) == std::vector<std::string>{"a", "b", "c"});
    rates[2].cpu_pct = 90;
    rates[0].memory_bytes = 5;
    rates[1].disk_read_bytes = 1;
    rates[0].disk_written_bytes = 1;
    rates[2].net_sent_bytes = 3;
    const std::pair<char, const char*> first[] = {
        {'c', "c"}, {'m', "a"}, {'d', "a"}, {'n', "c"}, {'N', "a"}};
    for (auto [key, name] : first) {
        INFO(key);
        sort_rates(rates, *top_order_of(key));
        CHECK(rates[0].name == name);
    }
    CHECK_FALSE(top_order_of('x'));
}

TEST_CASE("rows keep their columns whatever the figures") {
    Rates rates;
    rates.state = "running";
    rates.name = "a";
    rates.memory_bytes = 1ULL << 40;
    rates.cpu_pct = 6400;
    rates.disk_read_bytes = rates.net_sent_bytes = 2e10;
    rates.disk_operations = 99'999.4;
    rates.net_frames = 123'456;
    rates.exits = 5e9;
    auto row = top_row(rates);
    auto head = top_head();
    CHECK(row.rfind('a') == head.rfind("NAME"));
    CHECK(row.find(" 99999 ") != std::string::npos);
    CHECK(row.find(" 123k ") != std::string::npos);
    CHECK(row.find(" 5000M ") != std::string::npos);
    rates.memory_bytes = 0;
    CHECK(top_row(rates).find("6400") == std::string::npos); // it does not run
    CHECK(top_row(rates).rfind('a') == head.rfind("NAME"));
}

TEST_CASE("the summary adds up") {
    Rates one;
    one.memory_bytes = 1 << 20;
    one.cpu_pct = 25;
    Rates other = one;
    other.cpu_pct = 0;
    other.memory_bytes = 0;
    CHECK(top_summary({one, other}).starts_with("2 VMs, 1 run; CPU 25.0%, memory 1.0M"));
}
