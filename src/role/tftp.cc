// The tftp role: files for machines that boot from the network.
//
// User: _vmhost. Rights: a UDP socket per address, and reading the files of one directory, both
// handed over by the parent. Before the directory it hears nobody but the parent.
#include "tftp/tftp.h"
#include "role/child.h"

namespace vmhost::role {

int run_tftp(const Identity& identity) {
    Loop loop;
    std::unique_ptr<Parent> parent;
    std::array<std::uint64_t, tftp::outcomes> requests{}; // by what came of them
    std::uint64_t bytes = 0;
    tftp::Listener listener(loop, [&](const tftp::Event& event) {
        tftp::log_event(event);
        ++requests[static_cast<std::size_t>(event.outcome)];
        bytes += event.bytes;
    });
    bool fenced = false;
    auto message = [&](ipc::Frame frame) -> Result<void> {
        if (frame.type == ipc::Begin::type) {
            parent->send(ipc::Ready{});
        } else if (frame.type == ipc::ServiceCount::type) {
            ipc::ServiceCounted counted;
            for (std::uint16_t outcome = 0; outcome < requests.size(); ++outcome)
                counted.counters.push_back(
                    {ipc::Counted::tftp_requests, outcome, requests[outcome]});
            counted.counters.push_back({ipc::Counted::tftp_bytes, 0, bytes});
            counted.counters.push_back(
                {ipc::Counted::tftp_transfers, 0, listener.server().transfers()});
            parent->send(std::move(counted));
        } else if (frame.type == ipc::TftpDirectory::type) {
            auto given = TRY(ipc::decode<ipc::TftpDirectory>(std::move(frame)));
            const Fd* only[] = {&given.directory};
            TRY(open_beneath(only));
            listener.server().set_directory(std::move(given.directory));
            fenced = true;
        } else {
            auto given = TRY(ipc::decode<ipc::TftpListener>(std::move(frame)));
            if (!fenced)
                return fail(ErrorKind::internal, "tftp: a socket came before the directory");
            listener.listen(std::move(given.socket), given.max_block_bytes);
        }
        return {};
    };
    return serve(loop, parent, identity, tftp_calls, message);
}

} // namespace vmhost::role
