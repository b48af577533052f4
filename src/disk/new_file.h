// A file that is made, mode 0600, never over another, and has its name only once it is whole:
// whatever ends us before, also kill -9, leaves nothing. Where the filesystem cannot make
// files without a name it has one from the start, and is removed when it was not kept.
#pragma once

#include <string>
#include <utility>

#include "base/base.h"

namespace vmhost::disk {

class NewFile {
public:
    static Result<NewFile> create(const std::string& path);
    NewFile(NewFile&& other) noexcept
        : path_(std::move(other.path_)), named_(std::exchange(other.named_, false)),
          file_(std::move(other.file_)) {}
    NewFile& operator=(NewFile&&) = delete;
    ~NewFile();
    const Fd& file() const { return file_; }
    // exists when somebody took the name meanwhile.
    Result<void> keep();

private:
    NewFile(std::string path, bool named, Fd file)
        : path_(std::move(path)), named_(named), file_(std::move(file)) {}
    std::string path_;
    bool named_; // and to be removed
    Fd file_;
};

} // namespace vmhost::disk
