// The http role: answer files for installers.
//
// User: _vmhost. Rights: the listening sockets the parent opened. It knows the
// answer files of this host's VMs, and hands each only to its own VM's address.
#include "http/http.h"
#include "role/child.h"

namespace vmhost::role {

namespace {

std::vector<http::Answer> answers_of(std::vector<ipc::HttpAnswer>& described) {
    std::vector<http::Answer> answers;
    for (auto& one : described) {
        http::Answer answer;
        answer.vm = std::move(one.vm);
        answer.address = one.address;
        answer.lladdr = one.mac;
        answer.host_name = std::move(one.host_name);
        answer.content = std::move(one.content);
        answers.push_back(std::move(answer));
    }
    return answers;
}

} // namespace

int run_http(const std::string& uid, const std::string& gid) {
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
    auto setup = [&](ipc::Frame frame) {
        auto described = ipc::decode<ipc::HttpSetup>(std::move(frame));
        if (!described) {
            parent->fail(described.error());
            return;
        }
        answers.configure(answers_of(described->answers));
        server = std::make_unique<http::Server>(loop, http::Options{}, handle);
        for (auto& listener : described->listeners)
            if (auto listening = server->listen(std::move(listener)); !listening) {
                parent->fail(listening.error());
                return;
            }
        parent->send(ipc::Ready{});
    };
    return serve(loop, parent, uid, gid, setup, [](ipc::Frame) {});
}

} // namespace vmhost::role
