#include "sets/fetch.h"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <memory>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <thread>

#include "sets/shelf.h"

namespace vmhost::sets {

namespace {

// A file that is not whole, and what the mirror called it, so that it can go on.
constexpr std::string_view part_suffix = ".part", from_suffix = ".from";

Result<void> make_directory(const std::string& path) {
    if (::mkdir(path.c_str(), 0755) < 0 && errno != EEXIST)
        return fail_errno(errno, "make directory {}", printable(path));
    return {};
}

// On the disk when it returns.
Result<void> write_text(const std::string& path, std::string_view text) {
    Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!file)
        return fail_errno(errno, "write {}", printable(path));
    while (!text.empty()) {
        auto count = ::write(file.get(), text.data(), text.size());
        if (count < 0 && errno != EINTR)
            return fail_errno(errno, "write {}", printable(path));
        text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    }
    if (::fsync(file.get()) < 0)
        return fail_errno(errno, "write {}", printable(path));
    return {};
}

// As the installer has them: what it can install from, without media that hold the same again.
bool is_set(std::string_view name) {
    for (std::string_view suffix : {".iso", ".img", ".fs"})
        if (name.ends_with(suffix))
            return false;
    return true;
}

class Fetch {
public:
    Fetch(const FetchOrder& order, const FetchProgress& progress)
        : order_(order), progress_(progress),
          work_(fmt::format("{}/.fetch-{}-{}", order.directory, order.version, order.arch)),
          target_(fmt::format("{}/{}/{}", order.directory, order.version, order.arch)) {}

    Result<Fetched> run() {
        auto keys = TRY(keys_for(order_.keys, order_.version));
        TRY(make_directory(work_));
        TRY(lock());
        auto text = TRY(fetch_list());
        auto list = verify_sums(text, keys);
        if (!list)
            return std::unexpected(std::move(list).error().in(url_of(list_name)));
        std::erase_if(list->sums, [&](const Sum& sum) { return !order_.all && !is_set(sum.name); });
        if (list->sums.empty())
            return fail(ErrorKind::corrupt, "{} names no sets", url_of(list_name));
        fetched_.key = list->key;
        TRY(remove_others(list->sums));
        Record record;
        record.key = list->key;
        for (const auto& sum : list->sums) {
            TRY(fetch_file(sum));
            record.files.push_back(sum.name);
        }
        record.time_s = ::time(nullptr);
        TRY(write_text(path_of(list_name), text));
        TRY(write_text(path_of(record_name), record_text(record)));
        TRY(put_in_place());
        return fetched_;
    }

private:
    std::string path_of(std::string_view name) const { return fmt::format("{}/{}", work_, name); }
    std::string url_of(std::string_view name) const {
        auto mirror = std::string_view(order_.mirror);
        while (mirror.ends_with('/'))
            mirror.remove_suffix(1);
        return fmt::format("{}/{}/{}/{}", mirror, order_.version, order_.arch, name);
    }

    Result<void> lock() {
        lock_ = Fd(::open(work_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!lock_)
            return fail_errno(errno, "open {}", printable(work_));
        if (::flock(lock_.get(), LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK ? fail(ErrorKind::busy, "{} {} is being fetched already",
                                               order_.version, order_.arch)
                                        : fail_errno(errno, "lock {}", printable(work_));
        return {};
    }

    Result<std::string> fetch_list() {
        std::string text;
        auto url = TRY(parse_url(url_of(list_name)));
        auto done = with_patience(list_name, [&]() -> Result<void> {
            text.clear();
            Wanted wanted;
            wanted.max_bytes = limits::max_set_list_bytes;
            return download(url, wanted, order_.patience,
                            {[](const BodyInfo&) -> Result<void> { return {}; },
                             [&](Bytes bytes) -> Result<void> {
                                 text += as_text(bytes);
                                 got_on_ = true;
                                 return {};
                             }});
        });
        if (!done)
            return std::unexpected(std::move(done).error());
        return text;
    }

    // Tries again what a mirror or the way to it may mend, unless nothing at all comes of it.
    template <class Attempt>
    Result<void> with_patience(std::string_view name, Attempt attempt) {
        for (unsigned in_vain = 0;;) {
            got_on_ = false;
            auto done = attempt();
            if (done)
                return {};
            in_vain = got_on_ ? 0 : in_vain + 1;
            if (done.error().kind() != ErrorKind::io || in_vain >= limits::max_fetch_tries ||
                ++tries_ > limits::max_fetch_restarts)
                return std::unexpected(std::move(done).error().in(url_of(name)));
            if (progress_.again)
                progress_.again(done.error());
            std::this_thread::sleep_for(order_.between_tries);
        }
    }

    Result<bool> is_good(const std::string& path, const Sum& sum) {
        auto have = sha256_of(path, nullptr);
        if (!have && have.error().kind() == ErrorKind::not_found)
            return false;
        return TRY(std::move(have)) == sum.sha256;
    }

    Result<void> count(const std::string& path) {
        struct stat status {};
        if (::stat(path.c_str(), &status) == 0)
            fetched_.bytes += static_cast<std::uint64_t>(status.st_size);
        ++fetched_.files;
        return {};
    }

    Result<void> fetch_file(const Sum& sum) {
        if (progress_.file)
            progress_.file(sum.name);
        const auto path = path_of(sum.name);
        // Of a fetch that was killed, or of the sets that are served now.
        if (TRY(is_good(path, sum)))
            return count(path);
        ::unlink(path.c_str());
        const auto served = target_ + "/" + sum.name;
        if (TRY(is_good(served, sum)) && ::link(served.c_str(), path.c_str()) == 0)
            return count(path);
        // What a part went on from may have been other bytes: then it is begun anew, once.
        for (bool again : {false, true}) {
            const auto resumed = TRY(fetch_part(sum.name));
            if (TRY(is_good(path_of(sum.name + std::string(part_suffix)), sum)))
                break;
            forget_part(sum.name);
            if (!resumed || again)
                return fail(ErrorKind::corrupt,
                            "{}: it is not what was signed: its SHA256 is another",
                            url_of(sum.name));
        }
        if (::rename((path + std::string(part_suffix)).c_str(), path.c_str()) < 0)
            return fail_errno(errno, "rename {}", printable(path));
        ::unlink((path + std::string(from_suffix)).c_str());
        return count(path);
    }

    void forget_part(const std::string& name) {
        for (auto suffix : {part_suffix, from_suffix})
            ::unlink(path_of(name + std::string(suffix)).c_str());
    }

    // Whether a part was there already.
    Result<bool> fetch_part(const std::string& name) {
        const auto path = path_of(name + std::string(part_suffix));
        const auto from = path_of(name + std::string(from_suffix));
        Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
        if (!file)
            return fail_errno(errno, "write {}", printable(path));
        bool resumed = false;
        auto url = TRY(parse_url(url_of(name)));
        auto done = with_patience(name, [&]() -> Result<void> {
            struct stat status {};
            if (::fstat(file.get(), &status) < 0)
                return fail_errno(errno, "look at {}", printable(path));
            Wanted wanted;
            wanted.max_bytes = limits::max_set_bytes;
            if (auto validator = read_text(from, limits::max_fetch_head_bytes))
                wanted.validator = *validator;
            if (!wanted.validator.empty())
                wanted.offset = static_cast<std::uint64_t>(status.st_size);
            std::uint64_t at = 0, size = 0;
            Receiver receiver;
            receiver.begin = [&](const BodyInfo& body) -> Result<void> {
                at = body.offset;
                size = body.size;
                resumed |= at > 0;
                if (::ftruncate(file.get(), static_cast<off_t>(at)) < 0)
                    return fail_errno(errno, "write {}", printable(path));
                return write_text(from, body.validator);
            };
            receiver.take = [&](Bytes bytes) -> Result<void> {
                for (std::size_t put = 0; put < bytes.size();) {
                    auto written = ::pwrite(file.get(), bytes.data() + put, bytes.size() - put,
                                            static_cast<off_t>(at));
                    if (written < 0 && errno == EINTR)
                        continue;
                    if (written < 0) // another try would not make room
                        return fail(ErrorKind::limit, "{}",
                                    Error::system(errno, "write " + path).text());
                    put += static_cast<std::size_t>(written);
                    at += static_cast<std::uint64_t>(written);
                }
                got_on_ |= !bytes.empty();
                fetched_.fetched_bytes += bytes.size();
                if (progress_.bytes)
                    progress_.bytes(at, size);
                return {};
            };
            return download(url, wanted, order_.patience, receiver);
        });
        if (!done)
            return std::unexpected(std::move(done).error());
        if (::fsync(file.get()) < 0)
            return fail_errno(errno, "write {}", printable(path));
        return resumed;
    }

    // What another list wanted.
    Result<void> remove_others(const std::vector<Sum>& sums) {
        std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(work_.c_str()), ::closedir);
        if (!stream)
            return fail_errno(errno, "directory {}", printable(work_));
        while (const auto* entry = ::readdir(stream.get())) {
            std::string_view name = entry->d_name;
            if (name == "." || name == "..")
                continue;
            for (auto suffix : {part_suffix, from_suffix})
                if (name.ends_with(suffix))
                    name.remove_suffix(suffix.size());
            if (std::ranges::none_of(sums, [&](const Sum& sum) { return sum.name == name; }))
                ::unlinkat(lock_.get(), entry->d_name, 0);
        }
        return {};
    }

    // In one step, from what is served to what was verified.
    Result<void> put_in_place() {
        TRY(make_directory(order_.directory + "/" + order_.version));
        if (::fchmod(lock_.get(), 0755) < 0 || ::fsync(lock_.get()) < 0)
            return fail_errno(errno, "write {}", printable(work_));
        auto move = [&](unsigned how) {
            return ::syscall(SYS_renameat2, AT_FDCWD, work_.c_str(), AT_FDCWD, target_.c_str(),
                             how) == 0;
        };
        if (move(RENAME_NOREPLACE))
            return {};
        if (errno != EEXIST || !move(RENAME_EXCHANGE))
            return fail_errno(errno, "put {} in place", printable(target_));
        // The old ones stand where the new ones stood.
        lock_ = Fd(::open(work_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        TRY(remove_others({}));
        ::rmdir(work_.c_str());
        return {};
    }

    const FetchOrder& order_;
    const FetchProgress& progress_;
    const std::string work_, target_;
    Fd lock_; // of work_
    Fetched fetched_;
    bool got_on_ = false; // since the last try
    unsigned tries_ = 0;  // of everything, after the first
};

} // namespace

Result<Fetched> fetch_sets(const FetchOrder& order, const FetchProgress& progress) {
    if (!is_version(order.version))
        return fail(ErrorKind::invalid, "\"{}\" is no release such as 7.8, nor snapshots",
                    printable(order.version, 40));
    if (!is_arch(order.arch))
        return fail(ErrorKind::invalid, "\"{}\" is no architecture such as amd64",
                    printable(order.arch, 40));
    TRY(parse_url(order.mirror));
    return Fetch(order, progress).run();
}

} // namespace vmhost::sets
