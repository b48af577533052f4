// What a guest is told of its machine.
#include <catch2/catch.hpp>

#include "host/identity.h"

using namespace vmhost;
using namespace vmhost::host;

namespace {

config::Model model_of(const std::string& listen, const std::string& interface,
                       const std::string& install) {
    auto model =
        config::parse("[host]\nname = \"server8\"\n[switch.lan]\nipv4 = \"192.0.2.1/24\"\n" +
                          listen + "[vm.vm13]\n" + interface + "[vm.vm13.install]\n" + install,
                      "/t.toml");
    if (!model)
        FAIL(model.error().front().message());
    return *std::move(model);
}

const std::string wire = "interface = [{ switch = \"lan\", ipv4 = \"192.0.2.13\" }]\n";
const std::string seeded = "system = \"cloud-init\"\nhostname = \"puffy\"\n";

} // namespace

TEST_CASE("the serial number tells cloud-init where its seed is") {
    store::Installation third{.machine = 1, .number = 3};
    auto model = model_of("", wire, seeded);
    const auto* vm = model.find_vm("vm13");
    CHECK(serial_of(model, *vm, &third) ==
          "ds=nocloud;dsmode=net;s=http://192.0.2.1/seed/;i=vm13-3");
    // It stays so when it has been served, as cloud-init compares.
    third.sealed_s = 1;
    CHECK(serial_of(model, *vm, &third) ==
          "ds=nocloud;dsmode=net;s=http://192.0.2.1/seed/;i=vm13-3");
    CHECK(serial_of(model, *vm, nullptr).empty());

    model = model_of("[install]\nlisten = [\"192.0.2.1:8080\"]\n", wire, seeded);
    CHECK(serial_of(model, *model.find_vm("vm13"), &third) ==
          "ds=nocloud;dsmode=net;s=http://192.0.2.1:8080/seed/;i=vm13-3");
}

TEST_CASE("a guest that asks in another manner, or cannot, has no serial number") {
    const store::Installation first{.machine = 1, .number = 1};
    for (const auto& [interface, install] : {std::pair(wire, std::string("hostname = \"puffy\"\n")),
                                             std::pair(std::string(), seeded)}) {
        auto model = model_of("", interface, install);
        CHECK(serial_of(model, *model.find_vm("vm13"), &first).empty());
    }
}

TEST_CASE("the set-up has both") {
    const store::Installation first{.machine = 1, .number = 1};
    auto model = model_of("", wire, seeded);
    ipc::VmSetup setup;
    identify(setup, model, *model.find_vm("vm13"), &first);
    CHECK(setup.serial.ends_with("i=vm13-1"));
    auto uuid = config::uuid_of("server8", "vm13");
    CHECK(setup.uuid_high == uuid.high);
    CHECK(setup.uuid_low == uuid.low);
}
