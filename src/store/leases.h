// leases.db: who has which address by DHCP, and until when (vmhost-store(5)).
//
// It belongs to the dhcp role, which has no files of its own: the parent opens the three that
// SQLite needs and hands them over, locked, so that no other program writes or reads them
// meanwhile. What write() was given is on the disk when it returns, also when the power fails.
//
// Any one thread at a time. Times are of the system's clock, seconds since 1970.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/base.h"

namespace vmhost::store {

class Database;
class HandedFiles;

// Numbers are part of the format.
enum class LeaseState : std::uint8_t {
    none = 0, // write() removes the row
    offered = 1,
    bound = 2,
    expired = 3, // never in the file: a bound one whose time is over
    released = 4,
    declined = 5, // somebody else was found to use the address
};
std::string_view name_of(LeaseState state);

inline constexpr std::int64_t lease_for_ever = INT64_MAX;

struct LeaseRow {
    std::string network;
    Ipv4 address;
    Mac mac;
    std::string vm;        // empty: no VM of ours
    std::string client_id; // option 61 as it was sent, at most 255 bytes
    std::string host_name; // as the client says, when it is legal
    LeaseState state = LeaseState::none;
    std::int64_t since_s = 0; // of the state
    std::int64_t until_s = 0; // bound: its end; declined: not given out before that
    std::int64_t seen_s = 0;  // last message
    bool operator==(const LeaseRow&) const = default;
};

struct LeaseFiles {
    Fd database, wal, journal;
};
// In the parent; makes them when they are not there. busy: another program holds them; denied or
// io: the directory cannot be written.
Result<LeaseFiles> open_lease_files(const std::string& directory);

class LeaseStore {
public:
    // corrupt: it is damaged, or none of ours; unsupported: a newer vmhost wrote it.
    static Result<LeaseStore> open(LeaseFiles files);
    static Result<LeaseStore> in_memory();
    LeaseStore(LeaseStore&&) noexcept;
    LeaseStore& operator=(LeaseStore&&) noexcept;
    ~LeaseStore();

    Result<std::vector<LeaseRow>> all();
    // All of them or none. Of one address, the last counts.
    Result<void> write(std::span<const LeaseRow> rows);
    // Leases that were over before that.
    Result<unsigned> forget_older(std::int64_t before_s);

private:
    explicit LeaseStore(std::unique_ptr<HandedFiles> files, std::unique_ptr<Database> database);
    std::unique_ptr<HandedFiles> files_; // outlives the database
    std::unique_ptr<Database> database_;
};

} // namespace vmhost::store
