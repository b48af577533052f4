// Files of directories: which of them a request is for, and what is answered with it.
//
// A site is a list of locations, and the first whose host and path match is the request's, as in
// httpd.conf(5). A file is opened beneath its location's directory, which is known by its
// descriptor alone (openat2(2), RESOLVE_BENEATH): links may lead anywhere in it and nowhere else.
// No component that begins with a dot is served, but for /.well-known/ (RFC 8615).
//
// Thread: that of the server. Opening and reading may wait for a disk.
#pragma once

#include <memory>
#include <vector>

#include "http/conditions.h"
#include "http/directory.h"
#include "http/message.h"

namespace vmhost::http {

struct Location {
    std::string host = "*"; // pattern of the Host field, in small letters
    std::string path = "*"; // pattern of the path
    unsigned strip = 0;     // so many components of the path are not the directory's
    // A directory without index.html, and an index.txt that is not there, are answered with the
    // names in it.
    bool listing = false;
    // VERSION/ARCH/ is in it: site sets are beside what is there.
    bool sets = false;
    std::shared_ptr<const Fd> directory; // of open(2) with O_PATH; null: it cannot be served now
};

// siteVV.tgz, or siteVV-HOST.tgz for one client: for each VERSION/ARCH, VV being the digits of
// VERSION, as OpenBSD's installer looks for them.
struct SiteSet {
    std::string host_name; // empty: for all
    std::optional<IpAddress> only_for;
    bool claimed = false; // it is only named in lists: an AnswerDesk has it
    std::string content;
};

class Site {
public:
    // One that was there before keeps its date.
    void configure_sets(std::vector<SiteSet> sets, std::int64_t now_unix_seconds);
    void configure(std::vector<Location> locations) { locations_ = std::move(locations); }
    // Nothing: no location is for it.
    std::optional<Response> answer(const Request& request, std::int64_t now_unix_seconds);
    // Whether it is for a site set that is served here.
    bool has_site_set(const Request& request) const;

private:
    struct KnownSet {
        SiteSet set;
        Validators validators;
    };
    // A list is made at most once a second: it costs several system calls for each name.
    struct List {
        dev_t device = 0;
        ino_t inode = 0;
        int status = 200;
        std::string text;
    };
    // A regular file, with what its answers say of it.
    struct File {
        std::shared_ptr<const Fd> fd;
        std::shared_ptr<const std::string> content; // of a small one
        struct stat status {};
        Validators validators;
        std::string_view content_type;
    };
    // One that was asked for within this second: the next ones need not look for it. Its own
    // changes are seen, but for a second one of the same time, as fine as its filesystem has it;
    // those of links and directories on the way to it are not.
    struct Kept {
        std::size_t location = 0;
        std::string name;
        File file;
    };
    File describe(Opened opened, std::string_view name) const;
    const File* find_kept(std::size_t location, std::string_view name);
    Response send_file(const File& file, const Request& request) const;
    Response send_directory(Opened opened, const Request& request, const Location& location,
                            std::string_view name);
    Response send_list(const Opened& directory, const Location& location, std::string_view name,
                       const Request& request);
    std::optional<Response> made_index(const Location& location, std::string_view name,
                                       const Request& request);
    const Location* find_location(const Request& request) const;
    const KnownSet* find_set(std::string_view name, const Request& request) const;
    std::optional<Response> site_set(std::string_view name, const Request& request) const;
    std::string site_lines(const Location& location, std::string_view directory,
                           std::string_view list, const Request& request) const;
    int status_of(const Error& error);

    std::vector<Location> locations_;
    std::vector<KnownSet> sets_;
    std::int64_t now_ = 0;    // of the request that is answered
    std::vector<List> lists_; // made in that second, as are the kept ones
    std::vector<Kept> kept_;
    std::int64_t complained_ = 0; // in that second
};

// Without so many components: "/a/b/c" less 2 is "/c"; of fewer "/" is left.
std::string_view strip_components(std::string_view path, unsigned count);

} // namespace vmhost::http
