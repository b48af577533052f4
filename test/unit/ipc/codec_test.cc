// Messages there and back, and payloads that lie.

#include <catch2/catch.hpp>

#include <fcntl.h>

#include "ipc/codec.h"

using namespace vmhost;
using namespace vmhost::ipc;

namespace sample {

enum class Colour : std::uint8_t { red, green, blue };
constexpr Colour enum_last(Colour) {
    return Colour::blue;
}
enum class Any : std::uint16_t { zero };

struct Part {
    std::string name;
    std::optional<std::uint64_t> size;
    bool operator==(const Part&) const = default;
    template <class A>
    void fields(A& a) {
        a(name, size);
    }
};

// Stands for a struct of another room.
struct Foreign {
    std::int32_t number = 0;
    bool operator==(const Foreign&) const = default;
};
template <class A>
void fields(A& a, Foreign& foreign) {
    a(foreign.number);
}

struct Message {
    static constexpr std::uint16_t type = 77;
    std::uint8_t byte = 0;
    std::int64_t number = 0;
    bool truth = false;
    Colour colour = Colour::red;
    Any any = Any::zero;
    std::string text;
    std::vector<Part> parts;
    std::optional<Part> maybe;
    std::vector<std::pair<std::string, std::string>> pairs;
    Mac mac;
    Ipv4 address;
    Ipv4Prefix prefix;
    std::chrono::milliseconds delay{0};
    Fd one;
    std::vector<Fd> more;
    Foreign foreign;
    std::optional<Error> error;

    template <class A>
    void fields(A& a) {
        a(byte, number, truth, colour, any, text, parts, maybe, pairs, mac, address, prefix, delay);
        a(one, more, foreign, error);
    }
};

struct Small {
    static constexpr std::uint16_t type = 3;
    Colour colour = Colour::red;
    std::vector<std::uint8_t> bytes;
    Fd fd;
    template <class A>
    void fields(A& a) {
        a(colour, bytes, fd);
    }
};

} // namespace sample

using sample::Colour;
using sample::Small;

namespace {

Fd null_device() {
    return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

Frame small_frame(std::vector<std::uint8_t> payload, int fd_count = 0) {
    Frame frame{Small::type, std::move(payload), {}};
    for (int i = 0; i < fd_count; ++i)
        frame.fds.push_back(null_device());
    return frame;
}

std::string refusal(std::vector<std::uint8_t> payload, int fd_count = 0) {
    auto result = decode<Small>(small_frame(std::move(payload), fd_count));
    return result ? "accepted" : result.error().text();
}

} // namespace

TEST_CASE("every kind of member comes back") {
    sample::Message message;
    message.byte = 0xfe;
    message.number = -5;
    message.truth = true;
    message.colour = Colour::blue;
    message.any = static_cast<sample::Any>(999);
    message.text = std::string("a\0b", 3);
    message.parts = {{"x", 1ULL << 40}, {"", std::nullopt}};
    message.maybe = sample::Part{"y", 2};
    message.pairs = {{"k", "v"}};
    message.mac = parse_mac("fe:e1:bb:d1:00:01").value();
    message.address = parse_ipv4("192.0.2.1").value();
    message.prefix = parse_ipv4_prefix("192.0.2.1/24").value();
    message.delay = std::chrono::milliseconds(-1500);
    message.one = null_device();
    message.more.push_back(null_device());
    message.more.emplace_back(); // none
    message.more.push_back(null_device());
    message.foreign.number = -7;
    message.error = Error(ErrorKind::busy, "taken").at({"f", 3, 4});
    int first = message.one.get(), last = message.more[2].get();

    auto frame = encode(std::move(message));
    CHECK(frame.type == 77);
    CHECK(frame.fds.size() == 3);
    auto result = decode<sample::Message>(std::move(frame));
    REQUIRE(result);
    CHECK(result->byte == 0xfe);
    CHECK(result->number == -5);
    CHECK(result->truth);
    CHECK(result->colour == Colour::blue);
    CHECK(static_cast<int>(result->any) == 999);
    CHECK(result->text == std::string("a\0b", 3));
    CHECK(result->parts == std::vector<sample::Part>{{"x", 1ULL << 40}, {"", std::nullopt}});
    CHECK(result->maybe == sample::Part{"y", 2});
    CHECK(result->pairs.at(0).second == "v");
    CHECK(result->mac.text() == "fe:e1:bb:d1:00:01");
    CHECK(result->address.text() == "192.0.2.1");
    CHECK(result->prefix.text() == "192.0.2.1/24");
    CHECK(result->delay.count() == -1500);
    CHECK(result->one.get() == first);
    REQUIRE(result->more.size() == 3);
    CHECK_FALSE(result->more[1]);
    CHECK(result->more[2].get() == last);
    CHECK(result->foreign.number == -7);
    REQUIRE(result->error);
    CHECK(result->error->kind() == ErrorKind::busy);
    CHECK(result->error->message() == "f:3:4: taken");
}

TEST_CASE("the bytes of a message stand as described") {
    auto frame = encode(Small{Colour::green, {5, 6}, null_device()});
    CHECK(frame.payload == std::vector<std::uint8_t>{1, 2, 0, 0, 0, 5, 6, 1});
    CHECK(frame.fds.size() == 1);
}

TEST_CASE("payloads that lie are refused") {
    CHECK(refusal({1, 0, 0, 0, 0, 0}) == "accepted");
    CHECK(refusal({1, 0, 0, 0, 0, 1}, 1) == "accepted");
    const std::string front = "ipc: message of type 3 is malformed: ";
    CHECK(refusal({3, 0, 0, 0, 0, 0}) == front + "an enumeration has no such value");
    CHECK(refusal({1, 9, 0, 0, 0, 0}) == front + "a count goes past the end");
    CHECK(refusal({1, 0xff, 0xff, 0xff, 0xff, 0}) == front + "a count goes past the end");
    CHECK(refusal({1, 0, 0, 0, 0, 2}) == front + "a truth value is neither 0 nor 1");
    CHECK(refusal({1, 0, 0, 0, 0, 1}) == front + "a descriptor is missing");
    CHECK(refusal({1, 0, 0, 0, 0, 0}, 1) == front + "1 descriptors are left over");
    CHECK(refusal({1, 0, 0, 0, 0, 0, 0}) == front + "1 bytes are left over");
    CHECK(refusal({}) == front + "it is cut short");
    auto other = decode<Small>(Frame{4, {}, {}});
    REQUIRE_FALSE(other);
    CHECK(other.error().text() == "ipc: message of type 4 came where type 3 was due");
}

TEST_CASE("a message cut anywhere is refused") {
    sample::Message message;
    message.text = "text";
    message.parts = {{"a", 1}};
    message.error = Error(ErrorKind::io, "x");
    auto whole = encode(std::move(message)).payload;
    for (std::size_t length = 0; length < whole.size(); ++length) {
        Frame frame{77, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)}, {}};
        CHECK_FALSE(decode<sample::Message>(std::move(frame)));
    }
    CHECK(decode<sample::Message>(Frame{77, whole, {}}));
}
