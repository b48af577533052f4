// Files over real sockets on loopback: whole, in part, many at once, and cut off.

#include "served.h"

#include "../tftp/folder.h"

using namespace vmhost;
using namespace vmhost::http;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t large = 9'000'001;

struct Files {
    test::Folder folder;
    std::string content = test::bytes(large);
    Files() {
        folder.file("small", "few bytes");
        folder.file("empty", "");
        folder.file("large", content);
    }
    Site site() const {
        Location all;
        all.directory = std::make_shared<const Fd>(folder.open());
        Site out;
        out.configure({all});
        return out;
    }
};

} // namespace

TEST_CASE("files of every size come whole, one after the other") {
    Files files;
    Served served(files.site());
    Client client(served);
    client.send(get("/small") + get("/large") + "HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n" +
                get("/empty") + get("/small", "Range: bytes=4-\r\n") +
                get("/large", std::string("Range: bytes=-5\r\n") + std::string(close_field)));
    CHECK(body_of(client.read_response()) == "few bytes");
    CHECK((body_of(client.read_response()) == files.content));
    auto head = client.read_response(true);
    CHECK(head.find("Content-Length: " + std::to_string(large)) != std::string::npos);
    auto empty = client.read_response();
    CHECK(status_of(empty) == 200);
    CHECK(body_of(empty).empty());
    auto part = client.read_response();
    CHECK(status_of(part) == 206);
    CHECK(body_of(part) == "bytes");
    CHECK((body_of(client.read_response()) == files.content.substr(large - 5)));
    CHECK(client.read_all().empty());
    CHECK_FALSE(client.was_reset());
    auto list = served.accesses();
    REQUIRE(list.size() == 6);
    CHECK(list[1].path == "/large");
    CHECK(list[1].body_bytes == large);
    CHECK(list[1].cut_off_bytes == 0);
    CHECK(list[2].body_bytes == 0);
    CHECK(list[5].body_bytes == 5);
}

TEST_CASE("many clients have the same file at once") {
    Files files;
    Served served(files.site());
    std::vector<std::thread> threads;
    std::atomic<int> whole = 0;
    for (std::uint8_t i = 0; i < 20; ++i)
        threads.emplace_back([&, i] {
            auto response = ask(served, get("/large", close_field), loopback(1 + i));
            whole += body_of(response) == files.content;
        });
    for (auto& thread : threads)
        thread.join();
    CHECK(whole == 20);
}

TEST_CASE("a client that goes away in the middle costs nothing more") {
    Files files;
    Served served(files.site());
    {
        Client gone(served, loopback(1), 4096);
        gone.send(get("/large"));
        CHECK_FALSE(gone.closed_within(200));
    }
    while (served.accesses().empty())
        std::this_thread::sleep_for(5ms);
    auto list = served.accesses();
    CHECK(list[0].cut_off_bytes > 0);
    CHECK(list[0].body_bytes + list[0].cut_off_bytes == large);
}

TEST_CASE("a large file is told of while it goes, each byte once") {
    Files files;
    Options options;
    options.progress_interval = 20ms;
    Served served(files.site(), options);
    Client client(served, loopback(1), 65536);
    client.send(get("/small") + get("/large", close_field));
    std::string piece(1 << 20, '\0');
    for (int i = 0; i < 8; ++i) {
        std::this_thread::sleep_for(25ms);
        (void)::recv(client.fd(), piece.data(), piece.size(), MSG_WAITALL);
    }
    (void)client.read_all();
    auto last = served.accesses();
    REQUIRE(last.size() == 2);
    auto steps = served.progress();
    REQUIRE(steps.size() >= 2);
    std::uint64_t told = 0;
    for (const auto& step : steps) {
        CHECK(step.path == "/large");
        CHECK(step.told_bytes == told);
        CHECK(step.body_bytes > told);
        told = step.body_bytes;
    }
    CHECK(last[1].told_bytes == told);
    CHECK(last[1].body_bytes == large);
    CHECK(last[0].told_bytes == 0);
}

TEST_CASE("a client that has said all still gets a large file") {
    Files files;
    Served served(files.site());
    Client client(served);
    client.send(get("/large"));
    client.finish();
    CHECK((body_of(client.read_all()) == files.content));
}

TEST_CASE("a reset in the middle of a file, after the client's end, ends the connection alone") {
    Files files;
    Served served(files.site());
    {
        Client gone(served, loopback(1), 4096);
        gone.send(get("/large"));
        gone.finish();
        CHECK_FALSE(gone.closed_within(100));
        linger reset{1, 0};
        ::setsockopt(gone.fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    while (served.accesses().empty())
        std::this_thread::sleep_for(5ms);
    CHECK(served.accesses()[0].cut_off_bytes > 0);
    CHECK(body_of(ask(served, get("/small", close_field))) == "few bytes");
}

TEST_CASE("many requests at once do not keep others from theirs") {
    Files files;
    Served served(files.site());
    Client greedy(served), other(served, loopback(2));
    std::string many;
    for (int i = 0; i < 500; ++i)
        many += "HEAD /small HTTP/1.1\r\nHost: a\r\n\r\n";
    greedy.send(many);
    other.send(get("/small"));
    CHECK(body_of(other.read_response()) == "few bytes");
    for (int i = 0; i < 500; ++i)
        REQUIRE(status_of(greedy.read_response(true)) == 200);
}

TEST_CASE("a file that shrinks ends its connection") {
    Files files;
    Served served(files.site());
    Client client(served, loopback(1), 4096);
    client.send(get("/large"));
    std::this_thread::sleep_for(50ms); // the socket is full before
    std::filesystem::resize_file(files.folder.path + "/large", 10);
    auto response = client.read_all();
    CHECK(status_of(response) == 200);
    CHECK(body_of(response).size() < large);
}

TEST_CASE("a file that is replaced goes on as it was") {
    Files files;
    Served served(files.site());
    Client client(served, loopback(1), 4096);
    client.send(get("/large", close_field));
    std::this_thread::sleep_for(50ms);
    files.folder.file("new", "other");
    std::filesystem::rename(files.folder.path + "/new", files.folder.path + "/large");
    CHECK((body_of(client.read_all()) == files.content));
    CHECK(body_of(ask(served, get("/large", close_field))) == "other");
}

TEST_CASE("a client that does not read loses its file and its connection") {
    Files files;
    Options options;
    options.send_stall_timeout = 100ms;
    Served served(files.site(), options);
    Client client(served, loopback(1), 4096);
    client.send(get("/large"));
    while (served.accesses().empty())
        std::this_thread::sleep_for(5ms);
    CHECK(served.accesses()[0].cut_off_bytes > 0);
}
