// Files that the configuration names, opened by root on behalf of a VM's owner.
#pragma once

#include <string>
#include <sys/types.h>

#include "base/base.h"

namespace vmhost::host {

// A regular file, close-on-exec. flags is O_RDONLY or O_RDWR. When the owner is not
// root, the folders on the way may be his: then no symbolic link is followed, and the file must
// be his or root's and have no second name, so that he cannot lead root to somebody else's file.
// what names the object in errors: "disk", "boot".
Result<Fd> open_file_of(uid_t owner, const std::string& path, int flags, const char* what);

// A descriptor that a client of ours opened with its own rights: a regular file that it may read.
Result<void> check_file_of_caller(const Fd& file, const char* what);
// The file of such a descriptor, opened anew: locks, flags and offset are not the client's any
// more. mode is O_RDONLY or O_RDWR, which the client's own must allow.
Result<Fd> open_again(const Fd& file, int mode, const char* what);
// A new file, O_RDWR, mode 0600, on a way as above. exists when there is something of that name.
Result<Fd> create_file_of(uid_t owner, const std::string& path, const char* what);

// The same, but it has its name only once it is whole and kept: whatever ends us before leaves
// nothing. Where the filesystem cannot make files without a name it has one from the start, and is
// removed when it was not kept.
class NewFileOf {
public:
    static Result<NewFileOf> create(uid_t owner, const std::string& path, const char* what);
    // One that is to take the place of a file. Until then it may be there under another name, from
    // where the next one removes it.
    static Result<NewFileOf> create_beside(uid_t owner, const std::string& path, const char* what);
    NewFileOf(NewFileOf&& other) noexcept
        : folder_(std::move(other.folder_)), name_(std::move(other.name_)),
          named_(std::exchange(other.named_, false)), file_(std::move(other.file_)) {}
    NewFileOf& operator=(NewFileOf&&) = delete;
    ~NewFileOf();
    const Fd& file() const { return file_; }
    // exists when somebody took the name meanwhile.
    Result<void> keep();
    // Of one that was created beside. prepare() does all of it that may well fail. After replace()
    // the other file is gone, all at once, and after a power cut one of both is there.
    Result<void> prepare();
    Result<void> replace();

private:
    NewFileOf(Fd folder, std::string name, bool named, Fd file)
        : folder_(std::move(folder)), name_(std::move(name)), named_(named),
          file_(std::move(file)) {}
    Fd folder_;
    std::string name_; // in the folder
    bool named_;       // and to be removed
    Fd file_;
};

// The whole of a small regular file.
Result<std::string> read_small_file(const std::string& path, std::size_t max_bytes,
                                    const char* what);

} // namespace vmhost::host
