// leases.db on descriptors that somebody else has opened: what was written is there after the
// process was killed, and nobody else gets at it meanwhile.
#include <catch2/catch.hpp>

#include <csignal>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

#include "folder.h"
#include "store/store.h"

using namespace vmhost;
using namespace vmhost::store;

namespace {

LeaseRow row(std::uint32_t number) {
    LeaseRow out;
    out.network = "lan";
    out.address = {0x0a000000 + number};
    out.mac =
        Mac{{2, 0, static_cast<std::uint8_t>(number >> 24), static_cast<std::uint8_t>(number >> 16),
             static_cast<std::uint8_t>(number >> 8), static_cast<std::uint8_t>(number)}};
    out.client_id = std::string("\x01\x00\xff'", 4);
    out.host_name = "puffy";
    out.state = LeaseState::bound;
    out.since_s = 1000;
    out.until_s = 2000 + number;
    out.seen_s = 1500;
    return out;
}

LeaseStore open_in(const std::string& path) {
    return LeaseStore::open(open_lease_files(path).value()).value();
}

} // namespace

TEST_CASE("leases come back as they were written") {
    Folder folder;
    auto forever = row(3);
    forever.until_s = lease_for_ever;
    forever.vm = "a";
    {
        auto store = open_in(folder.path);
        CHECK(store.all().value().empty());
        REQUIRE(store.write(std::vector{row(1), row(2), forever}));
        auto changed = row(1);
        changed.state = LeaseState::released;
        auto gone = row(2);
        gone.state = LeaseState::none;
        REQUIRE(store.write(std::vector{changed, gone}));
    }
    auto store = open_in(folder.path);
    auto first = row(1);
    first.state = LeaseState::released;
    CHECK(store.all().value() == std::vector{first, forever});
    CHECK(store.forget_older(3000).value() == 1);
    CHECK(store.all().value() == std::vector{forever});
}

TEST_CASE("nobody else opens leases.db while it is in use") {
    Folder folder;
    auto files = open_lease_files(folder.path).value();
    auto again = open_lease_files(folder.path);
    REQUIRE_FALSE(again);
    CHECK(again.error().kind() == ErrorKind::busy);
    files = {};
    CHECK(open_lease_files(folder.path));
}

TEST_CASE("a damaged leases.db is told") {
    Folder folder;
    { CHECK(open_in(folder.path).write(std::vector{row(1)})); }
    std::ofstream(folder.path + "/leases.db", std::ios::binary) << std::string(8192, 'x');
    auto opened = LeaseStore::open(open_lease_files(folder.path).value());
    REQUIRE_FALSE(opened);
    CHECK(opened.error().kind() == ErrorKind::corrupt);
}

TEST_CASE("every lease that was acknowledged is there after kill -9") {
    Folder folder;
    std::uint32_t next = 0;
    for (int life = 0; life < 6; ++life) {
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        auto pid = ::fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            auto store = open_in(folder.path);
            for (std::uint32_t at = next;; at += 10) {
                std::vector<LeaseRow> rows;
                for (std::uint32_t i = 0; i < 10; ++i)
                    rows.push_back(row(at + i));
                if (!store.write(rows) || ::write(ends[1], &at, sizeof(at)) != sizeof(at))
                    ::_exit(1);
            }
        }
        ::close(ends[1]);
        std::uint32_t acknowledged = 0;
        for (int batches = 0; batches < 20 + 30 * life; ++batches)
            REQUIRE(::read(ends[0], &acknowledged, sizeof(acknowledged)) == sizeof(acknowledged));
        REQUIRE(::kill(pid, SIGKILL) == 0);
        while (::read(ends[0], &acknowledged, sizeof(acknowledged)) == sizeof(acknowledged))
            ;
        ::close(ends[0]);
        REQUIRE(::waitpid(pid, nullptr, 0) == pid);
        next = acknowledged + 10;
        auto store = open_in(folder.path);
        auto rows = store.all().value();
        // The batch that was under way may be there too, but whole.
        REQUIRE((rows.size() == next || rows.size() == next + 10));
        for (std::uint32_t i = 0; i < next; ++i)
            REQUIRE(rows[i] == row(i));
    }
}
