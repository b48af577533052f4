#include "host/services.h"

#include <fstream>
#include <sstream>

#include "dhcp/dhcp.h"
#include "http/http.h"
#include "install/install.h"

namespace vmhost::host {

using namespace std::chrono_literals;

Service::Service(Loop& loop, Plan plan)
    : loop_(loop), plan_(std::move(plan)), restart_(loop, [this] { launch(); }) {}

Service::~Service() = default;

void Service::start(std::function<void(Result<void>)> up) {
    up_ = std::move(up);
    launch();
}

void Service::report(Result<void> result) {
    if (auto up = std::exchange(up_, nullptr)) {
        up(std::move(result));
    } else if (!result && !stopping_) {
        log::error("host", "{}: {}; starting it again", plan_.launch.title,
                   result.error().message());
        restart_.start(1s);
    }
}

void Service::launch() {
    failure_.reset();
    auto setup = plan_.prepare();
    if (!setup) {
        report(std::unexpected(std::move(setup).error()));
        return;
    }
    auto process = RoleChild::start(
        loop_, plan_.launch,
        {.frame =
             [this](ipc::Frame&& frame) {
                 if (frame.type == ipc::Ready::type) {
                     report({});
                 } else if (frame.type == ipc::Failed::type) {
                     if (auto failed = ipc::decode<ipc::Failed>(std::move(frame)))
                         failure_ = Error(static_cast<ErrorKind>(failed->kind), failed->text);
                 } else {
                     plan_.frame(std::move(frame));
                 }
             },
         .ended =
             [this](std::string how) {
                 auto gone = std::move(process_);
                 if (stopping_) {
                     if (auto down = std::exchange(down_, nullptr))
                         down();
                     return;
                 }
                 report(std::unexpected(
                     failure_ ? std::move(*failure_)
                              : Error(ErrorKind::internal, "its process ended: " + how)));
             }});
    if (!process) {
        report(std::unexpected(std::move(process).error()));
        return;
    }
    process_ = std::move(*process);
    process_->send_frame(std::move(*setup));
}

void Service::stop(std::function<void()> down) {
    stopping_ = true;
    restart_.stop();
    if (!process_) {
        down();
        return;
    }
    down_ = std::move(down);
    process_->close();
}

void Service::send(ipc::Frame frame) {
    if (process_)
        process_->send_frame(std::move(frame));
}

bool wants_dhcp(const config::Model& model) {
    for (const auto& one : model.switches)
        if (one.dhcp.enabled && one.ipv4)
            return true;
    return false;
}

bool wants_http(const config::Model& model) {
    if (!model.install.listen.empty())
        return true;
    for (const auto& vm : model.vms)
        if (vm.install)
            return true;
    return false;
}

Result<ipc::DhcpSetup> describe_dhcp(const config::Model& model,
                                     const std::vector<BridgeLink>& bridges) {
    ipc::DhcpSetup setup;
    for (const auto& bridge : bridges) {
        const auto& one = *bridge.config;
        if (!one.dhcp.enabled || !one.ipv4)
            continue;
        auto opened = dhcp::open_sockets(one.interface, bridge.index, one.ipv4->address);
        if (!opened)
            return std::unexpected(std::move(opened).error().at(one.place));
        ipc::DhcpNetwork network;
        network.name = one.name;
        network.address = *one.ipv4;
        network.mac = opened->mac;
        network.mtu = one.mtu;
        network.packet_socket = std::move(opened->packet);
        network.udp_socket = std::move(opened->udp);
        network.routers =
            one.dhcp.routers.empty() ? std::vector{one.ipv4->address} : one.dhcp.routers;
        network.domain_name_servers = one.dhcp.domain_name_servers;
        network.domain_name =
            one.dhcp.domain_name.empty() ? model.host.domain : one.dhcp.domain_name;
        network.lease_seconds = static_cast<std::uint32_t>(
            std::chrono::duration_cast<std::chrono::seconds>(one.dhcp.lease_time).count());
        network.next_server = one.dhcp.next_server.value_or(one.ipv4->address);
        network.filename = one.dhcp.filename;
        for (const auto& vm : model.vms)
            for (const auto& interface : vm.interfaces)
                if (interface.switch_name == one.name && interface.ipv4)
                    network.guests.push_back({vm.name, interface.lladdr, *interface.ipv4,
                                              vm.install && !vm.install->hostname.empty()
                                                  ? vm.install->hostname
                                                  : vm.name});
        setup.networks.push_back(std::move(network));
    }
    return setup;
}

namespace {

Result<std::string> answer_file(const config::Model& model, const config::Vm& vm) {
    if (vm.install->file.empty())
        return install::render_answers(model, vm);
    std::ifstream file(vm.install->file);
    std::ostringstream text;
    text << file.rdbuf();
    if (!file)
        return std::unexpected(
            Error(ErrorKind::not_found, fmt::format("vm {}: answer file {} cannot be read", vm.name,
                                                    printable(vm.install->file)))
                .at(vm.place));
    return text.str();
}

} // namespace

Result<ipc::HttpSetup> describe_http(const config::Model& model) {
    ipc::HttpSetup setup;
    auto listens = model.install.listen;
    if (listens.empty())
        for (const auto& one : model.switches)
            if (one.ipv4)
                listens.push_back({one.place, one.ipv4->address, 80});
    for (const auto& listen : listens) {
        auto listener = http::open_listener(listen.address, listen.port);
        if (!listener)
            return std::unexpected(std::move(listener).error().at(listen.place));
        setup.listeners.push_back(std::move(*listener));
    }
    for (const auto& vm : model.vms) {
        if (!vm.install)
            continue;
        for (const auto& interface : vm.interfaces) {
            if (!interface.ipv4)
                continue;
            ipc::HttpAnswer answer;
            answer.vm = vm.name;
            answer.address = *interface.ipv4;
            answer.mac = interface.lladdr;
            answer.host_name = vm.install->hostname.empty() ? vm.name : vm.install->hostname;
            answer.content = TRY(answer_file(model, vm));
            setup.answers.push_back(std::move(answer));
        }
    }
    return setup;
}

} // namespace vmhost::host
