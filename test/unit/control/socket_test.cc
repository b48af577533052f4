// Server and Client over a real socket: the server on its loop in a thread.
#include <catch2/catch.hpp>

#include <climits>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include "control/control.h"

using namespace vmhost;

namespace {

struct Directory {
    std::string path;
    Directory() {
        char name[] = "/tmp/vmhost-control-XXXXXX";
        path = ::mkdtemp(name);
    }
    ~Directory() { std::filesystem::remove_all(path); }
    std::string socket() const { return path + "/sock"; }
};

// Answers "twice" with two replies, "fd" with a descriptor, "back" with the last one of the
// request, all else with an echo of the caller.
class EchoServer {
public:
    explicit EchoServer(Fd listener)
        : stop_(loop_, [this] {
              server_.reset();
              loop_.stop();
          }) {
        server_ = std::make_unique<control::Server>(
            loop_, std::move(listener),
            control::Server::Events{
                .request = [this](auto client, auto caller, auto text,
                                  auto fds) { answer(client, caller, text, std::move(fds)); },
                .gone = [this](auto) { ++gone; }});
        thread_ = std::jthread([this] { loop_.run(); });
    }
    ~EchoServer() {
        stop_.wake();
        thread_.join();
    }
    std::atomic<int> gone = 0;

private:
    void answer(std::uint64_t client, control::Caller caller, const std::string& text,
                std::vector<Fd> fds) {
        if (text == "twice")
            server_->reply(client, R"({"ok":true,"part":1})", false, {});
        std::optional<Fd> fd;
        if (text == "fd")
            fd = std::move(socket_pair(SOCK_STREAM)->first);
        if (text == "back" && !fds.empty())
            fd = std::move(fds.back());
        if (text == "no")
            server_->reply(client, R"({"ok":false,"kind":"busy","error":"not now"})", true, {});
        else
            server_->reply(client,
                           fmt::format(R"({{"ok":true,"uid":{},"groups":[{}]}})", caller.uid,
                                       fmt::join(caller.groups, ",")),
                           true, std::move(fd));
    }
    Loop loop_;
    Wakeup stop_;
    std::unique_ptr<control::Server> server_;
    std::jthread thread_;
};

} // namespace

TEST_CASE("requests, replies and descriptors cross the control socket") {
    Directory directory;
    EchoServer server(control::open_listener(directory.socket(), ::geteuid(), ::getegid()).value());
    auto client = control::Client::connect(directory.socket()).value();
    auto answer = client.request("hello").value();
    std::vector<gid_t> groups(NGROUPS_MAX);
    groups.resize(static_cast<std::size_t>(::getgroups(NGROUPS_MAX, groups.data())));
    CHECK(answer.json == fmt::format(R"({{"ok":true,"uid":{},"groups":[{}]}})", ::geteuid(),
                                     fmt::join(groups, ",")));

    int parts = 0;
    CHECK(client.request("twice", [&](const control::Client::Answer&) { ++parts; }));
    CHECK(parts == 1);
    CHECK(client.request("fd").value().fd.has_value());
    auto file = [&](const char* content) {
        std::ofstream(directory.path + "/" + content) << content;
        return Fd(::open((directory.path + "/" + content).c_str(), O_RDONLY | O_CLOEXEC));
    };
    std::vector<Fd> two;
    two.push_back(file("one"));
    two.push_back(file("two"));
    auto back = client.request("back", {}, std::move(two)).value();
    REQUIRE(back.fd);
    char read[4] = {};
    CHECK(::pread(back.fd->get(), read, 3, 0) == 3);
    CHECK(std::string(read) == "two");
    CHECK_FALSE(client.request("back", {}, std::vector<Fd>(3)));
    auto refused = client.request("no");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind() == ErrorKind::busy);
    CHECK(refused.error().text() == "not now");
}

TEST_CASE("a client that breaks the protocol is cut off, others are served") {
    Directory directory;
    EchoServer server(control::open_listener(directory.socket(), ::geteuid(), ::getegid()).value());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    directory.socket().copy(address.sun_path, sizeof(address.sun_path) - 1);
    Fd rude(::socket(AF_UNIX, SOCK_STREAM, 0));
    REQUIRE(::connect(rude.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    REQUIRE(::send(rude.get(), "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL) == 18);
    char byte;
    CHECK(::read(rude.get(), &byte, 1) <= 0);
    auto client = control::Client::connect(directory.socket()).value();
    CHECK(client.request("hello"));
}

TEST_CASE("no more clients than the limit") {
    Directory directory;
    EchoServer server(control::open_listener(directory.socket(), ::geteuid(), ::getegid()).value());
    std::vector<control::Client> clients;
    for (std::size_t i = 0; i < limits::max_control_clients; ++i) {
        clients.push_back(control::Client::connect(directory.socket()).value());
        if (i % 32 == 0)
            REQUIRE(clients.back().request("hello"));
    }
    REQUIRE(clients.back().request("hello"));
    auto one_more = control::Client::connect(directory.socket()).value();
    CHECK_FALSE(one_more.request("hello"));
    CHECK(clients.front().request("hello"));
}

TEST_CASE("the socket of a dead daemon is replaced, that of a living one is not") {
    Directory directory;
    {
        auto dead = control::open_listener(directory.socket(), ::geteuid(), ::getegid());
        REQUIRE(dead);
    }
    auto listener = control::open_listener(directory.socket(), ::geteuid(), ::getegid());
    REQUIRE(listener);
    struct stat about {};
    REQUIRE(::stat(directory.socket().c_str(), &about) == 0);
    CHECK((about.st_mode & 0777) == 0660);
    auto second = control::open_listener(directory.socket(), ::geteuid(), ::getegid());
    REQUIRE_FALSE(second);
    CHECK(second.error().kind() == ErrorKind::busy);

    std::ofstream(directory.path + "/file") << "mine";
    auto in_the_way = control::open_listener(directory.path + "/file", ::geteuid(), ::getegid());
    REQUIRE_FALSE(in_the_way);
    CHECK(in_the_way.error().kind() == ErrorKind::exists);
    CHECK(std::filesystem::exists(directory.path + "/file"));
    CHECK(control::open_listener(directory.path + std::string(200, 'x'), 0, 0).error().kind() ==
          ErrorKind::limit);
}
