// The control role: owns the control socket, knows who calls, decides nothing.
//
// User: _vmhost. Rights: the listening socket and its clients.
#include "control/control.h"
#include "role/child.h"

namespace vmhost::role {

int run_control(const Identity& identity) {
    Loop loop;
    std::unique_ptr<control::Server> server;
    std::unique_ptr<Parent> parent;

    auto open = [&](ipc::ControlSetup setup) {
        server = std::make_unique<control::Server>(
            loop, std::move(setup.listener),
            control::Server::Events{
                .request =
                    [&](std::uint64_t client, control::Caller caller, std::string json,
                        std::vector<Fd> fds) {
                        parent->send(ipc::ControlRequest{client, caller.uid, caller.gid,
                                                         std::move(caller.groups), std::move(json),
                                                         std::move(fds)});
                    },
                .gone =
                    [&](std::uint64_t client) { parent->send(ipc::ControlClientGone{client}); }});
    };
    auto message = [&](ipc::Frame frame) -> Result<void> {
        if (frame.type == ipc::Begin::type) {
            parent->send(ipc::Ready{});
        } else if (frame.type == ipc::ControlSetup::type) {
            open(TRY(ipc::decode<ipc::ControlSetup>(std::move(frame))));
        } else if (frame.type == ipc::ServiceCount::type) {
            ipc::ServiceCounted counted;
            counted.counters.push_back({ipc::Counted::control_clients, 0, server->clients()});
            parent->send(std::move(counted));
        } else {
            auto reply = TRY(ipc::decode<ipc::ControlReply>(std::move(frame)));
            server->reply(reply.client, std::move(reply.json), reply.last, std::move(reply.fd));
        }
        return {};
    };
    return serve(loop, parent, identity, control_calls, message);
}

} // namespace vmhost::role
