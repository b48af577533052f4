// The protocol over real sockets on loopback.

#include "served.h"

using namespace vmhost;
using namespace vmhost::http;
using namespace std::chrono_literals;

TEST_CASE("after Connection: close the end follows the body at once") {
    Served served;
    Client client(served);
    client.send(get("/x", close_field));
    auto began = std::chrono::steady_clock::now();
    auto response = client.read_all();
    CHECK(std::chrono::steady_clock::now() - began < 1s); // far below the linger time
    CHECK(status_of(response) == 200);
    CHECK(body_of(response) == "GET /x?@a 127.0.0.1");
    CHECK(response.find("\r\nConnection: close\r\n") != std::string::npos);
    CHECK(response.find("\r\nServer: vmhost\r\n") != std::string::npos);
    CHECK(response.find("\r\nDate: ") != std::string::npos);
    CHECK_FALSE(client.was_reset());
}

TEST_CASE("HTTP/1.0 needs no host, HTTP/1.1 does") {
    Served served;
    CHECK(status_of(ask(served, "GET /x HTTP/1.0\r\n\r\n")) == 200);
    CHECK(status_of(ask(served, "GET /x HTTP/1.1\r\n\r\n")) == 400);
    Client client(served);
    client.send("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(client.read_response().find("Connection: keep-alive") != std::string::npos);
    client.send("GET /y HTTP/1.0\r\n\r\n");
    CHECK(body_of(client.read_all()) == "GET /y?@ 127.0.0.1");
}

TEST_CASE("pipelined requests are answered in order") {
    Served served;
    Client client(served);
    client.send(get("/1") + get("/2") + get("/3", close_field) + get("/4"));
    auto first = client.read_response(), second = client.read_response();
    CHECK(body_of(first) == "GET /1?@a 127.0.0.1");
    CHECK(body_of(second) == "GET /2?@a 127.0.0.1");
    CHECK(first.find("X-Connection: 1\r\n") != std::string::npos);
    CHECK(second.find("X-Connection: 1\r\n") != std::string::npos);
    CHECK(body_of(client.read_response()) == "GET /3?@a 127.0.0.1");
    CHECK(client.closed_within(1000));
    CHECK(served.accesses().size() == 3);
}

TEST_CASE("HEAD is GET without the body") {
    Served served;
    Client client(served);
    auto without_date = [](std::string text) {
        auto date = text.find("Date: ");
        return text.erase(date, text.find("\r\n", date) - date);
    };
    // As long as "GET", so that the echoed body has the same length.
    client.send(get("/missing"));
    auto whole = client.read_response();
    client.send("HEAD /missing HTTP/1.1\r\nHost: a\r\n\r\n");
    auto head = client.read_response(true);
    CHECK(without_date(head) == without_date(whole).substr(0, without_date(head).size()));
    CHECK(body_of(head).empty());
    CHECK_FALSE(body_of(whole).empty());
    client.send(get("/after"));
    CHECK(body_of(client.read_response()) == "GET /after?@a 127.0.0.1");
}

TEST_CASE("an answer file goes to its vm and to nobody else, and once") {
    Served served({}, {{"vm13",
                        loopback(13),
                        parse_mac("fe:e1:bb:f1:c8:13").value(),
                        "puffy",
                        {{"install.conf", true}}}});
    auto request = get("/fe%3Ae1%3abb-f1-C8-13-install.conf?path=7.8/amd64", close_field);
    CHECK(status_of(ask(served, request, loopback(14))) == 404);
    auto head = ask(served, "HEAD /install.conf HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                    loopback(13));
    CHECK(status_of(head) == 405);
    CHECK(head.find("Allow: GET\r\n") != std::string::npos);
    auto response = ask(served, request, loopback(13));
    CHECK(status_of(response) == 200);
    CHECK(body_of(response) == "the answers of vm13");
    CHECK(response.find("Cache-Control: no-store\r\n") != std::string::npos);
    CHECK(response.find("Content-Type: text/plain\r\n") != std::string::npos);
    for (auto again : {"/fe:e1:bb:f1:c8:13-install.conf", "/puffy-install.conf", "/install.conf"})
        CHECK(status_of(ask(served, get(again, close_field), loopback(13))) == 404);
}

TEST_CASE("other methods are answered at once, also with Expect") {
    Served served;
    Client client(served);
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    auto response = client.read_all();
    CHECK(status_of(response) == 405);
    CHECK(response.find("Allow: GET, HEAD\r\n") != std::string::npos);
    CHECK(response.find("100 Continue") == std::string::npos);
    CHECK(status_of(ask(served, "BREW /x HTTP/1.1\r\nHost: a\r\n\r\n")) == 501);
    // Without a body the connection goes on.
    Client second(served);
    second.send("DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(status_of(second.read_response()) == 405);
    second.send(get("/y"));
    CHECK(status_of(second.read_response()) == 200);
}

TEST_CASE("a client sees the refusal of a long head, not a reset") {
    Served served;
    for (int round = 0; round < 20; ++round) {
        Client client(served);
        client.send(get("/", "X: " + std::string(200'000, 'x') + "\r\n"));
        auto response = client.read_all();
        CHECK(status_of(response) == 431);
        CHECK_FALSE(client.was_reset());
    }
    CHECK(status_of(ask(served, get("/" + std::string(9000, 'a')))) == 414);
}

TEST_CASE("a request may be split anywhere") {
    Served served;
    auto text = "\r\n" + get("/a?b=c", close_field);
    for (std::size_t split = 1; split < text.size(); ++split) {
        Client client(served);
        client.send(std::string_view(text).substr(0, split));
        if (split % 8 == 0) // most arrive as two segments anyway
            std::this_thread::sleep_for(1ms);
        client.send(std::string_view(text).substr(split));
        CHECK(body_of(client.read_all()) == "GET /a?b=c@a 127.0.0.1");
    }
    Client client(served);
    for (char c : text) {
        client.send({&c, 1});
        std::this_thread::sleep_for(200us);
    }
    CHECK(body_of(client.read_all()) == "GET /a?b=c@a 127.0.0.1");
}

TEST_CASE("nothing is taken for a second request after a refusal") {
    Served served;
    const auto hidden = get("/hidden", close_field);
    const std::string requests[] = {
        "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nx" + hidden,
        "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\n" +
            hidden,
        "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + hidden,
    };
    for (const auto& request : requests) {
        auto response = ask(served, request);
        CHECK(status_of(response) >= 200);
        CHECK(response.find("HTTP/1.1", 5) == std::string::npos);
        CHECK(response.find("hidden") == std::string::npos);
    }
    for (const auto& access : served.accesses())
        CHECK(access.path != "/hidden");
}

TEST_CASE("an explicit port must be the listener's") {
    Served served;
    auto with_port = [&](int port) {
        return status_of(ask(served, "GET /x HTTP/1.1\r\nConnection: close\r\nHost: a:" +
                                         std::to_string(port) + "\r\n\r\n"));
    };
    CHECK(with_port(served.port()) == 200);
    CHECK(with_port(served.port() ^ 1) == 400);
}

TEST_CASE("a client that has finished sending still gets its answers") {
    Served served;
    Client client(served);
    client.send(get("/1") + get("/2"));
    client.finish();
    auto all = client.read_all();
    CHECK(all.find("GET /1?") != std::string::npos);
    CHECK(all.find("GET /2?") != std::string::npos);
    Client cut(served);
    cut.send("GET /x HTTP/1.1\r\nHo");
    cut.finish();
    CHECK(cut.read_all().empty());
}

TEST_CASE("the hook tells who asked for what") {
    Served served;
    ask(served, get("/missing?q=1", close_field), loopback(7));
    ask(served, "nonsense\r\n\r\n", loopback(8));
    auto list = served.accesses();
    REQUIRE(list.size() == 2);
    CHECK(list[0].peer == loopback(7));
    CHECK(list[0].method == "GET");
    CHECK(list[0].path == "/missing");
    CHECK(list[0].query == "q=1");
    CHECK(list[0].status == 404);
    CHECK(list[0].body_bytes == error_response(404).body.size());
    CHECK(list[0].duration_us < 5'000'000);
    CHECK(list[1].path.empty());
    CHECK(list[1].status == 501);
}

TEST_CASE("a listener says which port is taken") {
    Served served;
    auto again = open_listener(loopback(1), served.port());
    REQUIRE_FALSE(again);
    CHECK(again.error().kind() == ErrorKind::busy);
    CHECK(again.error().text() == "http: port " + std::to_string(served.port()) +
                                      " of 127.0.0.1 is in use by another program");
    auto absent = open_listener(parse_ipv4("192.0.2.1").value(), 0);
    REQUIRE_FALSE(absent);
    CHECK(absent.error().text() == "http: 192.0.2.1 is not an address of this host");
}

TEST_CASE("IPv6 is served, and :: leaves IPv4 alone") {
    const IpAddress loopback6 = Ipv6{0, 1};
    Served served({}, {}, 0, loopback6);
    auto response = ask(served, get("/x", close_field));
    CHECK(body_of(response) == "GET /x?@a ::1");
    CHECK(served.accesses().at(0).peer == loopback6);
    auto all6 = open_listener(Ipv6{}, 0).value();
    sockaddr_in6 name{};
    socklen_t size = sizeof(name);
    ::getsockname(all6.get(), reinterpret_cast<sockaddr*>(&name), &size);
    CHECK(open_listener(Ipv4{}, ntohs(name.sin6_port)));
    auto again = open_listener(loopback6, served.port());
    REQUIRE_FALSE(again);
    CHECK(again.error().kind() == ErrorKind::busy);
    auto absent = open_listener(parse_ipv6("2001:db8::1").value(), 0);
    REQUIRE_FALSE(absent);
    CHECK(absent.error().text() == "http: 2001:db8::1 is not an address of this host");
}

TEST_CASE("an answer that comes later keeps its place") {
    Served served;
    Client client(served);
    client.send(get("/1") + get("/later") + get("/2") + "HEAD /later HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(body_of(client.read_response()) == "GET /1?@a 127.0.0.1");
    CHECK(body_of(client.read_response()) == "at last");
    CHECK(body_of(client.read_response()) == "GET /2?@a 127.0.0.1");
    auto head = client.read_response(true);
    CHECK(status_of(head) == 200);
    CHECK(head.find("Content-Length: 7\r\n") != std::string::npos);
    CHECK(body_of(head).empty());
    client.send(get("/later", close_field));
    CHECK(body_of(client.read_all()) == "at last");
    auto list = served.accesses();
    REQUIRE(list.size() == 5);
    CHECK(list[1].path == "/later");
    CHECK(list[1].status == 200);
}

TEST_CASE("a client that has said all it has to say gets its late answer") {
    Served served;
    Client client(served);
    client.send(get("/later"));
    client.finish();
    CHECK(body_of(client.read_all()) == "at last");
}

TEST_CASE("an answer that never comes is 503") {
    Options options;
    options.answer_timeout = 50ms;
    Served served(options);
    Client client(served);
    client.send(get("/never") + get("/1"));
    CHECK(status_of(client.read_response()) == 503);
    CHECK(body_of(client.read_response()) == "GET /1?@a 127.0.0.1");
}

TEST_CASE("a late answer to a client that is gone goes nowhere") {
    Served served;
    served.hold(true);
    {
        Client gone(served), patient(served);
        gone.send(get("/later"));
        patient.send(get("/later"));
        while (served.waiting() != 2)
            std::this_thread::yield();
        gone.close();
        served.hold(false);
        CHECK(body_of(patient.read_response()) == "at last");
    }
    CHECK(body_of(ask(served, get("/1", close_field))) == "GET /1?@a 127.0.0.1");
}
