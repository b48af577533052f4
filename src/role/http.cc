// The http role: answer files for installers.
//
// User: _vmhost. Rights: the listening sockets the parent opened. It knows the
// answer files of this host's VMs, and hands each only to its own VM's address.
#include "http/http.h"
#include "role/child.h"

namespace vmhost::role {

namespace {

http::Answer answer_of(ipc::HttpAnswer described) {
    http::Answer answer;
    answer.vm = std::move(described.vm);
    answer.address = described.address;
    answer.lladdr = described.mac;
    answer.host_name = std::move(described.host_name);
    answer.content = std::move(described.content);
    return answer;
}

} // namespace

int run_http(const Identity& identity) {
    Loop loop;
    http::Answers answers;
    std::unique_ptr<http::Server> server;
    std::unique_ptr<Parent> parent;

    auto handle = [&](const http::Request& request) {
        auto lookup = answers.find(request.path, request.query, request.peer);
        if (lookup.answer != nullptr && request.method == "GET")
            parent->send(ipc::HttpAnswerServed{lookup.answer->vm, request.path});
        return lookup.is_answer_name ? http::answer_response(lookup) : http::error_response(404);
    };
    server = std::make_unique<http::Server>(loop, http::Options{}, handle);
    std::vector<http::Answer> described;
    auto message = [&](ipc::Frame frame) -> Result<void> {
        if (frame.type == ipc::Begin::type) {
            answers.configure(std::move(described));
            parent->send(ipc::Ready{});
        } else if (frame.type == ipc::HttpListener::type) {
            auto listener = TRY(ipc::decode<ipc::HttpListener>(std::move(frame)));
            TRY(server->listen(std::move(listener.socket)));
        } else {
            described.push_back(answer_of(TRY(ipc::decode<ipc::HttpAnswer>(std::move(frame)))));
        }
        return {};
    };
    return serve(loop, parent, identity, http_calls, message);
}

} // namespace vmhost::role
