// What deploy remembers beside the file: which numbers were given, to whom, by which order, and
// what is left of VMs that are gone (vmhost-order(5), FILES).
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/base.h"

namespace vmhost::deploy {

struct Entry {
    unsigned number = 0;
    std::string vm, user;
    std::string order;               // the file, an absolute path
    std::string given;               // "2026-11-22"
    std::string removed;             // the same; empty: it is there
    bool account = false;            // of the user: it was made by us
    std::vector<std::string> images; // of one that is gone, as they were named; to be put away
    bool operator==(const Entry&) const = default;
};

class Ledger {
public:
    // One JSON object a line; corrupt: what stands there is none of ours.
    static Result<Ledger> parse(std::string_view text, const std::string& file);
    std::string text() const;

    const Entry* find(std::string_view vm) const;
    const Entry* of_order(std::string_view path) const; // one that is there
    std::set<unsigned> numbers() const;
    // Whether we made the account of that user, for a VM that is gone perhaps.
    bool made_account(std::string_view user) const;

    void put(Entry entry); // in place of the one of that VM
    std::vector<Entry>& entries() { return entries_; }
    const std::vector<Entry>& entries() const { return entries_; }

private:
    std::vector<Entry> entries_;
};

} // namespace vmhost::deploy
