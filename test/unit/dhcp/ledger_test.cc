// Leases are written down before anybody hears of them, together, and without stopping the loop.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>

#include "client.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::dhcp;

namespace {

store::LeaseRow row(std::uint32_t number) {
    store::LeaseRow out;
    out.network = "lan";
    out.address = {0x0a000000 + number};
    out.state = LeaseState::bound;
    out.until_s = store::lease_for_ever;
    return out;
}

struct Folder {
    std::string path = std::filesystem::temp_directory_path() / "vmhost-ledger-XXXXXX";
    Folder() {
        if (!::mkdtemp(path.data()))
            throw std::runtime_error("mkdtemp");
    }
    ~Folder() { std::filesystem::remove_all(path); }
};

store::LeaseStore open_in(const Folder& folder) {
    return store::LeaseStore::open(store::open_lease_files(folder.path).value()).value();
}

} // namespace

TEST_CASE("what comes in while the disk is busy shares the next transaction") {
    Folder folder;
    {
        Loop loop;
        Ledger ledger(loop);
        ledger.use(open_in(folder));
        unsigned told = 0;
        for (std::uint32_t i = 0; i < 1000; ++i)
            ledger.keep(row(i), [&](bool written) { told += written; });
        CHECK(told == 0); // never before the disk has it
        while (told < 1000)
            loop.run_once(true);
        CHECK(ledger.written() == 1000);
        CHECK(ledger.commits() == 2); // the first row alone, then all that waited
    }
    CHECK(open_in(folder).all().value().size() == 1000);
}

TEST_CASE("more than can wait is refused at once") {
    Folder folder;
    Loop loop;
    Ledger ledger(loop);
    ledger.use(open_in(folder));
    unsigned refused = 0, told = 0;
    for (std::uint32_t i = 0; i < limits::max_dhcp_unwritten + 11; ++i)
        ledger.keep(row(i), [&](bool written) { ++(written ? told : refused); });
    CHECK(refused == 10);
    while (told < limits::max_dhcp_unwritten + 1)
        loop.run_once(true);
}

TEST_CASE("a disk that does not take leases keeps them from being acknowledged") {
    Folder folder;
    auto files = store::open_lease_files(folder.path).value();
    { // so that there is a file to fail on
        auto made = store::LeaseStore::open(std::move(files)).value();
        REQUIRE(made.write(std::vector{row(1)}));
    }
    files = store::open_lease_files(folder.path).value();
    // What a full disk does, on the file that is written first.
    Fd full(::open("/dev/full", O_RDWR | O_CLOEXEC));
    REQUIRE(full);
    files.wal = std::move(full);
    auto store = store::LeaseStore::open(std::move(files));
    if (!store)
        return; // it was found out even earlier
    Loop loop;
    Ledger ledger(loop);
    ledger.use(*std::move(store));
    bool told = false, written = true;
    ledger.keep(row(2), [&](bool is) {
        told = true;
        written = is;
    });
    while (!told)
        loop.run_once(true);
    CHECK_FALSE(written);
    CHECK(ledger.failures() == 1);
}

TEST_CASE("a ledger that goes away leaves its job to end by itself") {
    Folder folder;
    Loop loop;
    bool told = false;
    {
        Ledger ledger(loop);
        ledger.use(open_in(folder));
        ledger.keep(row(1), [&](bool) { told = true; });
    }
    loop.run();
    CHECK_FALSE(told);
}
