// Fails the k-th step for every k: whatever step the kernel refuses, the host
// is as it was before.
#include <catch2/catch.hpp>

#include "namespace.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::net;

namespace {

// The real kernel, except that the step number fail_at (from 0) fails. Once it
// has failed the rest works, so that the undo can do its work.
struct Faulty final : Links {
    explicit Faulty(int& steps, int& fail_step)
        : kernel(open_kernel_links().value()), count(steps), fail_at(fail_step) {}

    template <class Function>
    auto step(Function function) -> decltype(function()) {
        if (count++ == fail_at)
            return fail(ErrorKind::io, "fault injected");
        return function();
    }
    Result<std::vector<Link>> list() override {
        return step([&] { return kernel->list(); });
    }
    Result<std::optional<Link>> find(const std::string& name) override {
        return step([&] { return kernel->find(name); });
    }
    Result<std::optional<Link>> find(unsigned index) override {
        return step([&] { return kernel->find(index); });
    }
    Result<void> create_bridge(const std::string& name, const Mac& mac) override {
        return step([&] { return kernel->create_bridge(name, mac); });
    }
    Result<std::vector<LinkCounters>> counters() override {
        return step([&] { return kernel->counters(); });
    }
    Result<void> create_vlan(const std::string& name, const Mac& mac,
                             const VlanOptions& options) override {
        return step([&] { return kernel->create_vlan(name, mac, options); });
    }
    Result<void> create_vxlan(const std::string& name, const Mac& mac,
                              const VxlanOptions& options) override {
        return step([&] { return kernel->create_vxlan(name, mac, options); });
    }
    Result<void> create_vrf(const std::string& name, const Mac& mac,
                            const VrfOptions& options) override {
        return step([&] { return kernel->create_vrf(name, mac, options); });
    }
    Result<void> close_table(unsigned table) override {
        return step([&] { return kernel->close_table(table); });
    }
    Result<void> open_table(unsigned table) override {
        return step([&] { return kernel->open_table(table); });
    }
    Result<void> set_bridge_options(unsigned index, const BridgeOptions& options) override {
        return step([&] { return kernel->set_bridge_options(index, options); });
    }
    Result<void> change(unsigned index, const LinkChange& change) override {
        return step([&] { return kernel->change(index, change); });
    }
    Result<void> set_port(unsigned index, const PortOptions& options) override {
        return step([&] { return kernel->set_port(index, options); });
    }
    Result<void> set_vlans(unsigned index, const Vlans& vlans) override {
        return step([&] { return kernel->set_vlans(index, vlans); });
    }
    Result<Vlans> vlans(unsigned index) override {
        return step([&] { return kernel->vlans(index); });
    }
    Result<std::vector<Forwarding>> forwarding() override {
        return step([&] { return kernel->forwarding(); });
    }
    Result<void> add_forwarding(const Forwarding& entry) override {
        return step([&] { return kernel->add_forwarding(entry); });
    }
    Result<void> remove_forwarding(const Forwarding& entry) override {
        return step([&] { return kernel->remove_forwarding(entry); });
    }
    Result<void> remove(unsigned index) override {
        return step([&] { return kernel->remove(index); });
    }
    Result<std::vector<LinkAddress>> addresses() override {
        return step([&] { return kernel->addresses(); });
    }
    Result<void> add_address(unsigned index, const Ipv4Prefix& prefix) override {
        return step([&] { return kernel->add_address(index, prefix); });
    }
    Result<void> remove_address(unsigned index, const Ipv4Prefix& prefix) override {
        return step([&] { return kernel->remove_address(index, prefix); });
    }
    Result<std::vector<LinkAddress6>> addresses6() override {
        return step([&] { return kernel->addresses6(); });
    }
    Result<void> add_address6(unsigned index, const Ipv6Prefix& prefix) override {
        return step([&] { return kernel->add_address6(index, prefix); });
    }
    Result<void> remove_address6(unsigned index, const Ipv6Prefix& prefix) override {
        return step([&] { return kernel->remove_address6(index, prefix); });
    }
    Result<Fd> open_tap(const std::string& name, uid_t owner, bool several_queues) override {
        return step([&] { return kernel->open_tap(name, owner, several_queues); });
    }
    Result<Fd> open_tap_queue(const std::string& name) override {
        return step([&] { return kernel->open_tap_queue(name); });
    }
    Result<bool> reap_tap(const std::string& name) override {
        return step([&] { return kernel->reap_tap(name); });
    }
    Result<void> disable_ipv6(const std::string& name) override {
        return step([&] { return kernel->disable_ipv6(name); });
    }
    Result<void> enable_ipv6(const std::string& name) override {
        return step([&] { return kernel->enable_ipv6(name); });
    }
    Result<void> guard_port(const std::string& table, const std::string& port,
                            const PortGuard& guard) override {
        return step([&] { return kernel->guard_port(table, port, guard); });
    }
    Result<void> unguard_port(const std::string& table, const std::string& port) override {
        return step([&] { return kernel->unguard_port(table, port); });
    }
    Result<std::vector<std::string>> guarded_ports(const std::string& table) override {
        return step([&] { return kernel->guarded_ports(table); });
    }
    Result<std::vector<GuardCount>> guard_counts(const std::string& table) override {
        return step([&] { return kernel->guard_counts(table); });
    }
    Result<std::optional<Fd>> watch_guards() override {
        return step([&] { return kernel->watch_guards(); });
    }
    Result<void> translate(const std::string& table,
                           const std::optional<Ipv4Prefix>& locals) override {
        return step([&] { return kernel->translate(table, locals); });
    }

    std::unique_ptr<Links> kernel;
    int& count;
    int& fail_at;
};

// A host's start: false when a step failed.
bool start(Network& network, std::vector<Fd>& taps) {
    auto address = parse_ipv4_prefix("10.0.0.1/24").value();
    auto address6 = parse_ipv6_prefix("2001:db8::1/64").value();
    BridgeSpec spec{.name = "br0", .ipv4 = address, .ipv6 = address6, .ports = {"v0", "v1"}};
    spec.vxlan = VxlanSpec{"vxlan7", {7, parse_ipv4("10.9.0.1").value(), 4789}, {}};
    spec.vxlan->peers = {parse_ipv4("10.9.0.2").value()};
    if (!network.make_bridge(spec))
        return false;
    auto tap = network.make_tap({.name = "a-if0",
                                 .bridge = "br0",
                                 .several_queues = true,
                                 .locked_to = Mac{{2, 0, 0, 0, 0, 1}},
                                 .guard = {.frames = true, .storm = Storm{1000, 1000}}});
    if (!tap)
        return false;
    taps.push_back(*std::move(tap));
    auto second = network.add_tap_queue("a-if0");
    if (!second)
        return false;
    taps.push_back(*std::move(second));
    return true;
}

} // namespace

TEST_CASE("a start that fails at any step leaves no tap and no bridge") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1 && ip link set v1 up");
    auto before = snapshot();
    bool complete = false;
    int fail_at = 0;
    for (; !complete && fail_at < 100; ++fail_at) {
        int steps = 0, fault = fail_at;
        std::vector<Fd> taps;
        auto network = Network::open("t", std::make_unique<Faulty>(steps, fault));
        complete = network && start(**network, taps);
        CHECK(complete == (steps <= fail_at)); // only the injected fault fails it, and does
        fault = -1;
        if (network)
            network->reset();
        taps.clear();
        INFO("failed at step " << fail_at);
        CHECK(text(snapshot()) == text(before));
    }
    CHECK(complete);
    CHECK(fail_at > 12); // the loop really went through a start
}

TEST_CASE("an adoption that fails at any step leaves nothing of ours") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1 && ip link set v1 up");
    bool complete = false;
    for (int fail_at = 0; !complete && fail_at < 100; ++fail_at) {
        {
            auto earlier = Network::open("t").value();
            REQUIRE(earlier->make_bridge(
                {.name = "br0", .ipv4 = parse_ipv4_prefix("10.7.0.1/24").value()}));
            earlier->leave();
        }
        int steps = 0, fault = fail_at;
        std::vector<Fd> taps;
        {
            auto network = Network::open("t", std::make_unique<Faulty>(steps, fault));
            complete = network && start(**network, taps);
            CHECK(complete == (steps <= fail_at));
            fault = -1;
        }
        taps.clear();
        // What failed before the adoption is still there for the next run; that one cleans up.
        REQUIRE(Network::open("t").value()->remove_stale_bridges());
        INFO("failed at step " << fail_at);
        CHECK_FALSE(exists("br0"));
        CHECK_FALSE(exists("vxlan7"));
        CHECK(link("v0").master == 0);
    }
    CHECK(complete);
}
