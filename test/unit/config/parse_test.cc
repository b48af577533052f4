#include <catch2/catch.hpp>

#include "config/config.h"
TEST_CASE("smoke") {
    auto m = vmhost::config::parse("[vm.a]\nmemroy=1\n[switch.lan]\nipv4='10.9.8.1/24'\n[vm.b]\ninterface=[{switch='lna'}]\n[vm.c]\nmemory=true", "f");
    for (auto& c : m.error()) puts(c.message().c_str());
    m = vmhost::config::parse("[vm.a]\ninterface=[{switch='lan'}]\n[switch.lan]\nipv4='10.9.8.1/24'\n", "f");
    REQUIRE(m);
    puts(print(*m).c_str());
    for (auto& k : vmhost::config::keys()) printf("%s %s | %s | %s | %s\n", k.table.c_str(), k.key.c_str(), k.type.c_str(), k.default_text.c_str(), k.help.c_str());
}
