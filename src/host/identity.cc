#include "host/identity.h"

#include "install/install.h"

namespace vmhost::host {

std::string serial_of(const config::Model& model, const config::Vm& vm,
                      const store::Installation* installation) {
    if (installation == nullptr || !vm.install ||
        vm.install->system != config::InstallSystem::cloud_init)
        return {};
    auto server = install::own_server(model, vm, "the seed");
    if (!server) {
        log::warning("host", "vm {}: it is not told of its seed: {}", vm.name,
                     server.error().text());
        return {};
    }
    return fmt::format("ds=nocloud;dsmode=net;s={}/seed/;i={}-{}", *server, vm.name,
                       installation->number);
}

void identify(ipc::VmSetup& setup, const config::Model& model, const config::Vm& vm,
              const store::Installation* installation) {
    const auto uuid = config::uuid_of(model.host.name, vm.name);
    setup.uuid_high = uuid.high;
    setup.uuid_low = uuid.low;
    setup.serial = serial_of(model, vm, installation);
}

} // namespace vmhost::host
