// SQLite on descriptors instead of paths: for a process that can open nothing.
#pragma once

#include <memory>
#include <string>

#include "store/leases.h"

namespace vmhost::store {

// Known to SQLite as a VFS for as long as it lives: one database, its WAL and its journal.
class HandedFiles {
public:
    static Result<std::unique_ptr<HandedFiles>> make(LeaseFiles files);
    ~HandedFiles();
    HandedFiles(const HandedFiles&) = delete;
    HandedFiles& operator=(const HandedFiles&) = delete;

    const std::string& name() const { return name_; } // of the VFS
    int fd_of(std::string_view path) const;

private:
    struct Vfs;
    explicit HandedFiles(LeaseFiles files);
    LeaseFiles files_;
    std::string name_;
    std::unique_ptr<Vfs> vfs_;
};

} // namespace vmhost::store
