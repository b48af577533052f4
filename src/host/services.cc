#include "host/services.h"

#include <algorithm>

#include "dhcp/dhcp.h"
#include "host/files.h"
#include "http/http.h"
#include "install/install.h"

namespace vmhost::host {

using namespace std::chrono_literals;

Service::Service(Loop& loop, Plan plan)
    : loop_(loop), plan_(std::move(plan)), restart_(loop, [this] { launch(); }),
      kill_(loop, [this] {
          log::warning("host", "{} did not end when told to: killing it", plan_.launch.title);
          if (process_)
              process_->kill();
      }) {}

Service::~Service() = default;

void Service::start(std::function<void(Result<void>)> up) {
    up_ = std::move(up);
    launch();
}

void Service::report(Result<void> result) {
    if (auto up = std::exchange(up_, nullptr)) {
        const bool again = !result && renewed_;
        up(std::move(result));
        if (again && !stopping_)
            restart_.start(1s);
    } else if (!result && !stopping_) {
        log::error("host", "{}: {}; starting it again", plan_.launch.title,
                   result.error().message());
        restart_.start(1s);
    }
}

void Service::launch() {
    if (stopping_)
        return;
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
                 kill_.stop();
                 if (stopping_) {
                     if (auto down = std::exchange(down_, nullptr))
                         down();
                     return;
                 }
                 if (std::exchange(renewing_, false)) {
                     launch();
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
    for (auto& frame : *setup)
        process_->send_frame(std::move(frame));
    process_->send(ipc::Begin{});
}

void Service::renew(std::function<void(Result<void>)> up) {
    up_ = std::move(up);
    renewed_ = true;
    stopping_ = false; // it may have been stopped for good, and be wanted again
    restart_.stop();
    if (!process_) {
        launch();
        return;
    }
    renewing_ = true;
    process_->close();
    kill_.start(5s);
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
    kill_.start(5s);
}

void Service::send(ipc::Frame frame) {
    if (process_)
        process_->send_frame(std::move(frame));
}

bool wants_dhcp(const config::Model& model) {
    for (const auto& one : model.switches)
        if (one.enabled && one.dhcp.enabled && one.ipv4)
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

Result<std::vector<ipc::Frame>> describe_dhcp(const config::Model& model,
                                              const std::vector<BridgeLink>& bridges) {
    std::vector<ipc::Frame> frames;
    for (const auto& bridge : bridges) {
        const auto* found = model.find_switch(bridge.switch_name);
        if (found == nullptr)
            continue;
        const auto& one = *found;
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
                                                  : vm.name,
                                              vm.install.has_value()});
        frames.push_back(ipc::encode(std::move(network)));
    }
    return frames;
}

namespace {

Result<std::string> answer_file(const config::Model& model, const config::Vm& vm) {
    if (vm.install->file.empty())
        return install::render_answers(model, vm);
    const auto& named = vm.install->file;
    auto path = named.starts_with('/') ? named : model.host.state + "/" + named;
    auto text = read_small_file(path, limits::max_answer_file_bytes, "answer file");
    if (!text)
        return std::unexpected(
            std::move(text).error().in(fmt::format("vm {}", vm.name)).at(vm.place));
    for (const auto& doubt : install::lint_answers(*text))
        log::warning("host", "vm {}: answer file {} line {}: {}", vm.name, printable(path),
                     doubt.place().line, doubt.text());
    return text;
}

// Whether a guest on the switch is served answers.
bool has_installer(const config::Model& model, const config::Switch& one) {
    return std::ranges::any_of(model.vms, [&](const config::Vm& vm) {
        return vm.install && std::ranges::any_of(vm.interfaces, [&](const auto& interface) {
                   return interface.switch_name == one.name;
               });
    });
}

} // namespace

Result<std::vector<ipc::Frame>> describe_http(const config::Model& model) {
    std::vector<ipc::Frame> frames;
    auto listens = model.install.listen;
    if (listens.empty())
        for (const auto& one : model.switches)
            if (one.enabled && one.ipv4 && (!one.local || has_installer(model, one)))
                listens.push_back({one.place, one.ipv4->address, 80});
    for (const auto& listen : listens) {
        auto listener = http::open_listener(listen.address, listen.port);
        if (!listener)
            return std::unexpected(std::move(listener).error().at(listen.place));
        frames.push_back(ipc::encode(ipc::HttpListener{std::move(*listener)}));
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
            frames.push_back(ipc::encode(std::move(answer)));
        }
    }
    return frames;
}

} // namespace vmhost::host
