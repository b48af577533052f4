// Clients that are slow, many, or do not read.

#include "served.h"

#include <fcntl.h>
#include <sys/resource.h>

using namespace vmhost;
using namespace vmhost::http;
using namespace std::chrono_literals;

namespace {

bool wait_for(const std::function<bool()>& condition) {
    for (int i = 0; i < 5000 && !condition(); ++i)
        std::this_thread::sleep_for(1ms);
    return condition();
}

double process_seconds() {
    timespec used{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

} // namespace

TEST_CASE("slow loris: the whole head has one deadline") {
    Options options;
    options.head_timeout = 300ms;
    Served served(options);
    Client client(served);
    auto began = std::chrono::steady_clock::now();
    client.send("GET /x HTTP/1.1\r\n");
    std::string response;
    for (int i = 0; i < 100 && response.empty(); ++i) {
        client.send("X: y\r\n"); // a byte now and then does not extend it
        response = client.read_all(20);
    }
    auto took = std::chrono::steady_clock::now() - began;
    CHECK(status_of(response) == 408);
    CHECK(took > 250ms);
    CHECK(took < 3s);
    Client silent(served);
    CHECK(silent.closed_within(3000)); // nothing was begun: no answer either
}

TEST_CASE("idle connections end, also after a request") {
    Options options;
    options.idle_timeout = 200ms;
    Served served(options);
    Client client(served);
    client.send(get("/x"));
    CHECK(status_of(client.read_response()) == 200);
    CHECK(client.closed_within(3000));
}

TEST_CASE("a client that does not read loses its connection and holds no memory") {
    Options options;
    options.send_stall_timeout = 300ms;
    Served served(options, {}, 4 << 20);
    Client client(served, loopback(1), 4096);
    for (int i = 0; i < 20; ++i)
        client.send(get("/big")); // only the first is read while its answer waits
    CHECK(wait_for([&] { return served.connections() == 1; }));
    std::this_thread::sleep_for(150ms);
    CHECK(served.accesses().size() <= 2);
    CHECK(wait_for([&] { return served.connections() == 0; }));
}

TEST_CASE("a client that asks on and does not read is not told that it was slow to ask") {
    Options options;
    options.send_stall_timeout = 200ms;
    options.head_timeout = options.idle_timeout = 60s;
    options.max_requests_per_connection = 1'000'000;
    Served served(options);
    Client client(served, loopback(1), 4096);
    ::fcntl(client.fd(), F_SETFL, O_NONBLOCK);
    std::string asked;
    for (int i = 0; i < 1000; ++i)
        asked += get("/x");
    // Until the server reads no more: its answers fill both buffers.
    for (int full = 0; full < 20;) {
        auto count = ::send(client.fd(), asked.data(), asked.size(), MSG_NOSIGNAL);
        full = count < 0 ? full + 1 : 0;
        if (count < 0 && errno != EAGAIN)
            break;
        if (count < 0)
            std::this_thread::sleep_for(2ms);
        else
            asked = asked.substr(static_cast<std::size_t>(count)) +
                    asked.substr(0, static_cast<std::size_t>(count));
    }
    CHECK(wait_for([&] { return served.connections() == 0; }));
    for (const auto& access : served.accesses())
        REQUIRE(access.status == 200);
}

TEST_CASE("a slow reader gets every byte") {
    Options options;
    options.send_stall_timeout = 1s;
    Served served(options, {}, 3 << 20);
    Client client(served, loopback(1), 4096);
    client.send(get("/big", "Connection: close\r\n"));
    std::this_thread::sleep_for(100ms);
    CHECK(body_of(client.read_all()).size() == 3 << 20);
}

TEST_CASE("a half-closed client that does not read costs no processor time") {
    Options options;
    options.send_stall_timeout = 2s;
    Served served(options, {}, 8 << 20);
    Client client(served, loopback(1), 4096);
    client.send(get("/big") + get("/x"));
    client.finish();
    CHECK(wait_for([&] { return served.connections() == 1; }));
    std::this_thread::sleep_for(100ms);
    auto before = process_seconds();
    std::this_thread::sleep_for(500ms);
    CHECK(process_seconds() - before < 0.25);
    auto all = client.read_all();
    CHECK(all.size() > 8 << 20);
    CHECK(all.find("GET /x?") != std::string::npos);
}

TEST_CASE("requests per connection are counted") {
    Options options;
    options.max_requests_per_connection = 3;
    Served served(options);
    Client client(served);
    for (int i = 0; i < 3; ++i) {
        client.send(get("/x"));
        auto response = client.read_response();
        CHECK((response.find("Connection: close") != std::string::npos) == (i == 2));
    }
    CHECK(client.closed_within(1000));
}

TEST_CASE("200 idle connections of many addresses, then the cap") {
    Options options;
    options.max_connections = 200;
    Served served(options);
    std::vector<std::unique_ptr<Client>> clients;
    for (std::size_t i = 0; i < 200; ++i)
        clients.push_back(
            std::make_unique<Client>(served, loopback(static_cast<std::uint8_t>(10 + i / 25))));
    CHECK(wait_for([&] { return served.connections() == 200; }));
    // One more is served: the oldest idle one makes room.
    CHECK(status_of(ask(served, get("/x", "Connection: close\r\n"))) == 200);
    CHECK(clients[0]->closed_within(3000));
    clients[199]->send(get("/x"));
    CHECK(status_of(clients[199]->read_response()) == 200);
}

TEST_CASE("one address cannot have all connections") {
    Options options;
    options.max_connections_per_address = 4;
    Served served(options);
    std::vector<std::unique_ptr<Client>> busy;
    for (int i = 0; i < 4; ++i) {
        busy.push_back(std::make_unique<Client>(served, loopback(2)));
        busy.back()->send("GET /unfinished HTTP/1.1\r\n"); // not idle: cannot be displaced
    }
    CHECK(wait_for([&] { return served.connections() == 4; }));
    std::this_thread::sleep_for(20ms);
    CHECK(status_of(ask(served, get("/x", "Connection: close\r\n"), loopback(2))) == 0);
    CHECK(status_of(ask(served, get("/x", "Connection: close\r\n"), loopback(3))) == 200);
    busy[0]->close();
    CHECK(wait_for([&] { return served.connections() == 3; }));
    CHECK(status_of(ask(served, get("/x", "Connection: close\r\n"), loopback(2))) == 200);
    busy[1]->send("Host: a\r\nConnection: close\r\n\r\n");
    CHECK(status_of(busy[1]->read_all()) == 200);
}

TEST_CASE("connections come and go without a trace") {
    Served served;
    for (int i = 0; i < 300; ++i) {
        Client client(served, loopback(static_cast<std::uint8_t>(i % 7 + 1)));
        if (i % 3 == 0)
            client.send(get("/x"));
        if (i % 3 == 1)
            client.send("GET /x HT");
    }
    CHECK(wait_for([&] { return served.connections() == 0; }));
}

TEST_CASE("out of descriptors the server turns clients away and recovers") {
    Served served;
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    Client waiting(served);
    REQUIRE(wait_for([&] { return served.connections() == 1; }));
    Fd clients[3];
    for (auto& client : clients)
        client = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(0x7f000001);
    name.sin_port = htons(served.port());

    // No checks while descriptors are short: the sanitizers need some for theirs.
    Fd highest(::open("/dev/null", O_RDONLY));
    rlimit none = before;
    none.rlim_cur = static_cast<rlim_t>(highest.get());
    highest.reset();
    ::setrlimit(RLIMIT_NOFILE, &none);
    std::vector<Fd> fill;
    for (int fd = ::open("/dev/null", O_RDONLY); fd >= 0; fd = ::open("/dev/null", O_RDONLY))
        fill.emplace_back(fd);
    bool all_connected = true;
    for (auto& client : clients)
        all_connected &=
            ::connect(client.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0;
    auto used = process_seconds();
    std::this_thread::sleep_for(400ms);
    used = process_seconds() - used;
    waiting.send(get("/x"));
    auto response = waiting.read_response();
    char c = 0;
    auto turned_away = ::recv(clients[0].get(), &c, 1, MSG_DONTWAIT);
    auto turned_away_error = errno;
    fill.clear();
    ::setrlimit(RLIMIT_NOFILE, &before);

    CHECK(all_connected);
    CHECK(used < 0.2); // no spinning
    CHECK(status_of(response) == 200);
    CHECK((turned_away == 0 || turned_away_error == ECONNRESET));
    CHECK(status_of(ask(served, get("/x", "Connection: close\r\n"))) == 200);
}

TEST_CASE("a client that does not take what came before gets no later answer") {
    Options options;
    options.send_stall_timeout = 100ms;
    options.answer_timeout = 60s;
    Served served(options, {}, 20'000'000);
    Client client(served, loopback(1), 4096);
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    while (served.connections() == 0)
        std::this_thread::sleep_for(1ms);
    while (served.connections() != 0)
        std::this_thread::sleep_for(5ms);
    CHECK(served.accesses().size() == 1);
}
