// The net tests need a network namespace and a tap device; without the right to
// make them they are skipped (77), never passed.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include <cstdio>

#include "namespace.h"

int main(int argc, char** argv) {
    if (!vmhost::test::enter_fresh_namespace()) {
        std::perror("skipped: unshare(CLONE_NEWNET)");
        return 77;
    }
    auto network = vmhost::net::Network::open("probe");
    if (!network || !(*network)->make_bridge({.name = "br-probe"})) {
        std::puts("skipped: bridges cannot be made here");
        return 77;
    }
    if (auto tap = (*network)->make_tap({.name = "tap-probe", .bridge = "br-probe"}); !tap) {
        std::printf("skipped: %s\n", tap.error().message().c_str());
        return 77;
    }
    network->reset();
    return Catch::Session().run(argc, argv);
}
