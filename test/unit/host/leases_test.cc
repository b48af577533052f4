// Who has which address: questions to the dhcp process and their answers, however late.
#include <catch2/catch.hpp>

#include "host/leases.h"

using namespace vmhost;
using namespace vmhost::host;
using namespace std::chrono_literals;

namespace {

struct Rig {
    Loop loop{VirtualTime{}};
    bool served = true;
    std::vector<ipc::Frame> sent;
    LeaseDesk desk{loop, [this](ipc::Frame frame) {
                       if (served)
                           sent.push_back(std::move(frame));
                       return served;
                   }};
    // What came of each question: addresses, or the error.
    std::vector<std::string> heard;

    void list() {
        desk.list([this](Result<std::vector<ipc::DhcpLeaseRow>> rows) {
            std::string text = rows ? "" : rows.error().message();
            for (const auto& row : rows ? *rows : std::vector<ipc::DhcpLeaseRow>{})
                text += row.address.text() + " ";
            heard.push_back(text);
        });
    }
    void release(const char* address) {
        desk.release(parse_ipv4(address).value(), [this](Result<void> done) {
            heard.push_back(done ? "released" : done.error().message());
        });
    }
    void pass(std::chrono::milliseconds time) {
        bool over = false;
        Timer timer(loop, [&] { over = true; });
        timer.start(time);
        while (!over)
            loop.run_once(true);
    }
    // An answer to a listing with one row.
    void say(std::uint32_t question, const char* address, bool last = true) {
        ipc::DhcpLeaseRow row;
        row.address = parse_ipv4(address).value();
        auto frame = ipc::encode(ipc::DhcpLeases{question, {row}, last});
        CHECK(desk.took(frame));
    }
    void say_forgotten(std::uint32_t question, bool found) {
        auto frame = ipc::encode(ipc::DhcpForgotten{question, found});
        CHECK(desk.took(frame));
    }
    std::uint32_t asked(std::size_t at) {
        return ipc::decode<ipc::DhcpLeasesWanted>(std::move(sent.at(at))).value().question;
    }
};

} // namespace

TEST_CASE("leases: a listing is the parts of its own answer") {
    Rig rig;
    rig.list();
    rig.list();
    auto first = rig.asked(0), second = rig.asked(1);
    REQUIRE(first != second);
    rig.say(second, "10.0.0.2", false);
    rig.say(first, "10.0.0.1");
    rig.say(second, "10.0.0.3");
    CHECK(rig.heard == std::vector<std::string>{"10.0.0.1 ", "10.0.0.2 10.0.0.3 "});
}

TEST_CASE("leases: what is said after the patience is over answers no later question") {
    Rig rig;
    rig.list();
    auto late = rig.asked(0);
    rig.say(late, "10.0.0.66", false);
    rig.pass(5001ms);
    REQUIRE(rig.heard.size() == 1);
    CHECK(rig.heard[0].find("does not answer") != std::string::npos);
    rig.list();
    rig.say(late, "10.0.0.67");
    CHECK(rig.heard.size() == 1);
    rig.say(rig.asked(1), "10.0.0.1");
    CHECK(rig.heard.back() == "10.0.0.1 ");
}

TEST_CASE("leases: each question has the whole of its patience") {
    Rig rig;
    rig.list();
    rig.pass(4000ms);
    rig.release("10.0.0.9");
    rig.pass(2000ms);
    CHECK(rig.heard.size() == 1); // the first
    auto question = ipc::decode<ipc::DhcpForget>(std::move(rig.sent.at(1))).value().question;
    rig.say(question, "10.0.0.1"); // no answer to that
    CHECK(rig.heard.size() == 1);
    rig.say_forgotten(question, true);
    CHECK(rig.heard.back() == "released");
    rig.say_forgotten(question, true); // nobody waits for it any more
    rig.pass(6000ms);
    CHECK(rig.heard.size() == 2);
}

TEST_CASE("leases: without a service the answer comes at once") {
    Rig rig;
    rig.served = false;
    rig.list();
    rig.release("10.0.0.9");
    CHECK(rig.heard == std::vector<std::string>(2, "no switch has DHCP"));
    auto other = ipc::encode(ipc::Ready{});
    CHECK_FALSE(rig.desk.took(other));
}
