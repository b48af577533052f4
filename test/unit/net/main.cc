// The net tests need a network namespace and a tap device; without the right to
// make them they are skipped (77), never passed.
//
// A listener and not a main(): Catch's own runner would be compiled again with that.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>

#include <cstdio>

#include "namespace.h"

namespace {

struct Place : Catch::TestEventListenerBase {
    using TestEventListenerBase::TestEventListenerBase;
    void testRunStarting(const Catch::TestRunInfo&) override {
        if (!vmhost::test::enter_fresh_namespace()) {
            std::perror("skipped: unshare(CLONE_NEWNET)");
            std::exit(77);
        }
        auto network = vmhost::net::Network::open("probe");
        if (!network || !(*network)->make_bridge({.name = "br-probe"})) {
            std::puts("skipped: bridges cannot be made here");
            std::exit(77);
        }
        if (auto tap = (*network)->make_tap({.name = "tap-probe", .bridge = "br-probe"}); !tap) {
            std::printf("skipped: %s\n", tap.error().message().c_str());
            std::exit(77);
        }
    }
};
CATCH_REGISTER_LISTENER(Place)

} // namespace
