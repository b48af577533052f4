#include <catch2/catch.hpp>

#include <algorithm>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include "ipc/ipc.h"

using namespace vmhost;
using ipc::SharedRing;
using ipc::SharedRingReader;

namespace {

constexpr std::size_t capacity = 1024;

void write(SharedRing& ring, std::uint64_t& end, const std::string& text) {
    for (char c : text)
        ring.bytes()[end++ % capacity] = static_cast<std::uint8_t>(c);
    ring.publish(end);
}

} // namespace

TEST_CASE("a shared ring: another reader goes on where the first one was") {
    auto first = SharedRingReader::create(capacity).value();
    auto memory = first.memory().duplicate().value();
    auto ring = SharedRing::map(memory, capacity).value();
    std::uint64_t end = 0, position = 0;
    std::vector<std::uint8_t> bytes;
    write(ring, end, "hello ");
    first.read(position, 100, bytes);
    first.keep_position(position);
    write(ring, end, "there");
    auto second = SharedRingReader::adopt(std::move(memory), capacity).value();
    CHECK(second.kept_position() == 6);
    position = second.kept_position();
    CHECK(second.read(position, 100, bytes) == 0);
    CHECK(std::string(bytes.begin(), bytes.end()) == "there");
    // A position that lies ahead is of a writer that spoilt it.
    second.keep_position(1'000'000);
    CHECK(second.kept_position() == end);
}

TEST_CASE("a shared ring: memory that could shrink, of another size, or none, is refused") {
    Fd unsealed(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(unsealed.get(), 4096 + capacity) == 0);
    CHECK_FALSE(SharedRingReader::adopt(unsealed.duplicate().value(), capacity));
    REQUIRE(::fcntl(unsealed.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    CHECK(SharedRingReader::adopt(unsealed.duplicate().value(), capacity));
    CHECK_FALSE(SharedRingReader::adopt(std::move(unsealed), capacity + 1));
    CHECK_FALSE(SharedRingReader::adopt(Fd(::open("/dev/null", O_RDWR | O_CLOEXEC)), capacity));
    CHECK_FALSE(SharedRingReader::adopt(Fd(), capacity));
}
