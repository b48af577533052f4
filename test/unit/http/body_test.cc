// Bodies of requests: they are read to find the next request, whatever pieces they come in.

#include "served.h"

#include "http/body.h"

using namespace vmhost;
using namespace vmhost::http;
using namespace std::chrono_literals;

namespace {

Head chunked_head() {
    Head head;
    head.has_body = head.chunked = true;
    return head;
}

// The status that ends it, or 0, or -1: it has not ended. used: all bytes of it.
int read_chunked(std::string_view text, std::size_t piece_bytes, std::size_t& used) {
    BodyReader reader(chunked_head());
    std::string buffer;
    used = 0;
    for (std::size_t at = 0; at < text.size(); at += piece_bytes) {
        buffer += text.substr(at, piece_bytes);
        auto taken = reader.take(buffer);
        CHECK(taken.used_bytes <= buffer.size());
        buffer.erase(0, taken.used_bytes);
        used += taken.used_bytes;
        if (taken.refusal)
            return taken.refusal->status;
        CHECK(buffer.size() * !taken.whole < limits::max_http_chunk_line_bytes);
        if (taken.whole)
            return 0;
    }
    return -1;
}

int chunked(std::string_view text) {
    std::size_t used = 0, used_in_bytes = 0;
    auto at_once = read_chunked(text, text.size(), used);
    auto byte_by_byte = read_chunked(text, 1, used_in_bytes);
    CHECK(at_once == byte_by_byte);
    if (at_once == 0)
        CHECK(used == used_in_bytes);
    return at_once;
}

std::string post(std::string_view fields, std::string_view body) {
    return fmt::format("POST /x HTTP/1.1\r\nHost: a\r\n{}\r\n{}", fields, body);
}
constexpr std::string_view chunked_field = "Transfer-Encoding: chunked\r\n";

} // namespace

TEST_CASE("chunked bodies end where they say") {
    CHECK(chunked("0\r\n\r\n") == 0);
    CHECK(chunked("5\r\nhello\r\n0\r\n\r\n") == 0);
    CHECK(chunked("00A;name=value;x=\"y\"\r\n0123456789\r\n0000\r\nTrailer: x\r\n\r\n") == 0);
    CHECK(chunked("5\r\nhello\r\n0\r\n") == -1);
    CHECK(chunked("5\r\nhel") == -1);
    std::size_t used = 0;
    CHECK(read_chunked("1\r\nx\r\n0\r\n\r\nGET /", 100, used) == 0);
    CHECK(used == 11);
}

TEST_CASE("chunked bodies that can be read in two ways are refused") {
    for (auto bad : {"\r\n\r\n", "x\r\n", "-1\r\n", "+1\r\nx\r\n", "0x1\r\nx\r\n", " 1\r\nx\r\n",
                     "1 \r\nx\r\n0\r\n\r\n", "1\nx\r\n", "1\r\nxy\r\n0\r\n\r\n", "1\r\nx0\r\n\r\n",
                     "1;a\rb\r\nx\r\n", ";a\r\n", "000000001\r\nx\r\n", "0\r\nA: b\n\r\n"}) {
        INFO(bad);
        CHECK(chunked(bad) == 400);
    }
    CHECK(chunked("ffffffff\r\n") == 413);
    CHECK(chunked("100001\r\n") == 413);
    CHECK(chunked("1;" + std::string(limits::max_http_chunk_line_bytes, 'x')) == 400);
    std::string trailers = "0\r\n";
    for (int i = 0; i < 100; ++i)
        trailers += "Name: " + std::string(100, 'x') + "\r\n";
    CHECK(chunked(trailers) == 431);
    // The limit is of all chunks together.
    std::string many;
    for (int i = 0; i < 17; ++i)
        many += "10000\r\n" + std::string(65536, 'x') + "\r\n";
    std::size_t used = 0;
    CHECK(read_chunked(many, 4096, used) == 413);
}

TEST_CASE("after a body the next request is the one that was meant") {
    Served served;
    const auto hidden = get("/hidden");
    const std::string bodies[] = {
        post(fmt::format("Content-Length: {}\r\n", hidden.size()), hidden),
        post(chunked_field, fmt::format("{:x}\r\n{}\r\n0\r\n\r\n", hidden.size(), hidden)),
        post(chunked_field, "0\r\n" + hidden.substr(hidden.find("Host")))};
    for (const auto& first : bodies)
        for (std::size_t piece : {first.size() + 1000, first.size() - 3, std::size_t{1}}) {
            Client client(served);
            auto text = first + get("/next") + get("/last", close_field);
            for (std::size_t at = 0; at < text.size(); at += piece)
                client.send(std::string_view(text).substr(at, piece));
            CHECK(status_of(client.read_response()) == 405);
            CHECK(body_of(client.read_response()) == "GET /next?@a 127.0.0.1");
            CHECK(body_of(client.read_response()) == "GET /last?@a 127.0.0.1");
            CHECK(client.closed_within(1000));
        }
    for (const auto& access : served.accesses())
        CHECK(access.path != "/hidden");
}

TEST_CASE("a large body is read whole before the answer") {
    Served served;
    Client client(served);
    const std::string body(limits::max_http_body_bytes, 'x');
    client.send("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n" + body +
                get("/y", close_field));
    CHECK(body_of(client.read_response()) == "GET /x?@a 127.0.0.1");
    CHECK(body_of(client.read_response()) == "GET /y?@a 127.0.0.1");
    CHECK_FALSE(client.was_reset());
}

TEST_CASE("a body that is wrong or too large ends its connection") {
    Served served;
    const auto hidden = get("/hidden", close_field);
    for (const auto& [text, status] : {
             std::pair{post("Content-Length: 1048577\r\n", hidden), 413},
             {post(chunked_field, "100001\r\n" + hidden), 413},
             {post(chunked_field, "x\r\n" + hidden), 400},
             {post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" + hidden),
              400},
             {post("Transfer-Encoding: gzip\r\n", hidden), 501},
             {post("Expect: tea\r\nContent-Length: 5\r\n", "12345" + hidden), 417},
             {post("Expect: 100-continue\r\nContent-Length: 5\r\n", "12345" + hidden), 405},
         }) {
        auto response = ask(served, text);
        CHECK(status_of(response) == status);
        CHECK(response.find("\r\nConnection: close\r\n") != std::string::npos);
        CHECK(response.find("HTTP/1.1", 5) == std::string::npos);
    }
    for (const auto& access : served.accesses())
        CHECK(access.path != "/hidden");
}

TEST_CASE("HTTP/1.0 has no expectations") {
    Served served;
    Client client(served);
    client.send("GET /x HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n"
                "Content-Length: 2\r\n\r\n");
    CHECK_FALSE(client.closed_within(50));
    client.send("ab" + get("/y", close_field));
    CHECK(status_of(client.read_response()) == 200);
    CHECK(status_of(client.read_response()) == 200);
}

TEST_CASE("a body has to come in time, and a cut one is no request") {
    Options options;
    options.body_timeout = 100ms;
    Served served(options);
    Client slow(served);
    slow.send(post("Content-Length: 5\r\n", "1"));
    CHECK(status_of(slow.read_all()) == 408);
    Client cut(served);
    cut.send(post("Content-Length: 5\r\n", "1"));
    cut.finish();
    CHECK(cut.read_all(1000).empty());
    for (const auto& access : served.accesses())
        CHECK(access.path.empty());
}
