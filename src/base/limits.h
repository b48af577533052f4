// Every limit that somebody outside can hit, with its reason. Each has a test.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmhost::limits {

// vmd's limit for VM and switch names; fits tap aliases and file names.
inline constexpr std::size_t max_name_bytes = 63;
inline constexpr std::uint64_t max_duration_ms = 10ULL * 365 * 86'400'000;

// Guest memory as vmctl(8) has it.
inline constexpr std::uint64_t min_memory_bytes = 1ULL << 20;
inline constexpr std::uint64_t max_memory_bytes = 128ULL << 30;
inline constexpr unsigned max_vcpus = 64;

// What a guest's owner may ask for. PCI bus 0 has 32 slots; with more devices than that, several
// share a slot as its functions.
inline constexpr std::size_t max_disks = 16;
inline constexpr std::size_t max_interfaces = 16;
// Queues of one device: a disk is not faster with more; a NIC has a pair for each processor, and
// all NICs of a guest together no more tap descriptors than one message carries.
inline constexpr unsigned max_block_queues = 4;
inline constexpr unsigned max_queue_pairs = 8;
inline constexpr unsigned max_tap_queues = 64;
// A limit below this cannot be told from a disk or NIC that does not work.
inline constexpr std::uint64_t min_limit_bytes = 1ULL << 20;
inline constexpr std::uint64_t max_limit_bytes = 1ULL << 40;
inline constexpr unsigned max_limit_operations = 100'000'000;
inline constexpr std::int64_t max_limit_burst_ms = 60'000;
inline constexpr std::size_t max_vms = 4096;
inline constexpr std::size_t max_switches = 256;

// A configuration is written by people; beyond this it is a mistake.
inline constexpr std::size_t max_config_bytes = 16 << 20;
// Dotted parts of one TOML key: the deepest legal one has five; a tree as deep as the
// file is long would exhaust the stack when it is taken down.
inline constexpr std::size_t max_key_parts = 16;
// Nobody reads more; a file full of nonsense must not fill memory with complaints.
inline constexpr std::size_t max_complaints = 1000;
// One text value: the longest real ones are an ssh key and a kernel's command line.
inline constexpr std::size_t max_text_bytes = 16 << 10;
// An empty image below vmctl's minimum is a forgotten suffix; above 64 TiB a wrong one.
inline constexpr std::uint64_t min_disk_bytes = 1ULL << 20;
inline constexpr std::uint64_t max_disk_bytes = 64ULL << 40;
// qcow2: QEMU's own limits for the tables that are kept in memory; the first is enough for
// 2 TiB of disk with clusters of 2 KiB, the second for 16 PiB of file with those of 64 KiB.
inline constexpr std::uint64_t max_qcow2_l1_bytes = 32ULL << 20;
inline constexpr std::uint64_t max_qcow2_refcount_table_bytes = 8ULL << 20;
inline constexpr std::uint32_t max_qcow2_snapshots = 65536;
// All L1 tables of a check together: the active one and those of snapshots.
inline constexpr std::uint64_t max_qcow2_checked_l1_bytes = 256ULL << 20;
// No filesystem of Linux has longer files; also what an L2 entry has bits for.
inline constexpr std::uint64_t max_qcow2_file_bytes = 1ULL << 55;
// The format's limit for the name of a backing file.
inline constexpr std::size_t max_backing_name_bytes = 1023;
// Image and the files below it: every layer costs descriptors and a look-up per read.
inline constexpr std::size_t max_image_layers = 8;
// Pieces of tables in memory, per layer: with 64 KiB clusters, 1 MiB maps 8 GiB of disk.
inline constexpr std::size_t qcow2_l2_cache_bytes = 1 << 20;
inline constexpr std::size_t qcow2_refcount_cache_bytes = 256 << 10;
// Freed clusters remembered for the next allocation; the rest is found by searching.
inline constexpr std::size_t max_qcow2_reusable_clusters = 4096;
// One request is served in parts of this size, so that it holds others up only so long.
inline constexpr std::uint64_t max_qcow2_part_bytes = 2ULL << 20;
// What check keeps at once: counters of this many clusters, and complaints of its report.
inline constexpr std::uint64_t max_qcow2_checked_clusters = 8ULL << 20;
inline constexpr std::size_t max_check_messages = 100;
// What virtio-blk has room for.
inline constexpr std::size_t max_disk_serial_bytes = 20;
// IFNAMSIZ without the terminator.
inline constexpr std::size_t max_device_name_bytes = 15;
// sun_path without the terminator.
inline constexpr std::size_t max_socket_path_bytes = 107;
// IPv4's minimum, and what a tap of Linux accepts.
inline constexpr unsigned min_mtu_bytes = 576;
inline constexpr unsigned max_mtu_bytes = 65521;
// Interfaces of this host on one bridge, and addresses of the HTTP service: real hosts
// have a handful.
inline constexpr std::size_t max_interfaces_per_switch = 64;
inline constexpr std::size_t max_listen_addresses = 64;
// One DHCP option has 255 bytes of addresses; BOOTP's file field has 128 with its end.
inline constexpr std::size_t max_dhcp_addresses = 63;
// An RDNSS option of 15 is 248 bytes long: with all others an advertisement fits into 576.
inline constexpr std::size_t max_ra_addresses = 15;
// Identity associations of one DHCPv6 message, and addresses in each: clients have one or two. An
// answer to so many fits into IPv6's smallest packet.
inline constexpr std::size_t max_dhcp6_associations = 8;
inline constexpr std::size_t max_dhcp_filename_bytes = 127;
inline constexpr std::size_t max_domain_bytes = 253;

// One IPC frame and the descriptors it carries: a VM's description with every disk, the files
// below it, and tap; SCM_MAX_FD of Linux is 253.
inline constexpr std::size_t max_frame_bytes = 4 << 20;
inline constexpr std::size_t max_frame_fds = 250;
// A peer that does not read is cut off when this much waits for it.
inline constexpr std::size_t max_queued_bytes = 32 << 20;
// … or this many descriptors; a process has 20,000 at most on common hosts.
inline constexpr std::size_t max_queued_fds = 1024;

// A control client's request; replies may be larger.
inline constexpr std::size_t max_control_request_bytes = 1 << 20;
inline constexpr std::size_t max_control_clients = 256;
// One user must not keep the others out, and root always gets in.
inline constexpr std::size_t max_control_clients_per_user = 32;
inline constexpr std::size_t control_clients_reserved_for_root = 32;
// Clients that wait for the end of one VM.
inline constexpr std::size_t max_waiters = 256;
// A ready-made answer file.
inline constexpr std::size_t max_answer_file_bytes = 256 << 10;

// A kernel image on disk and, for gzip'd ones, unpacked.
inline constexpr std::uint64_t max_kernel_bytes = 512ULL << 20;
inline constexpr std::uint64_t max_initrd_bytes = 2ULL << 30;
inline constexpr std::uint64_t max_bios_bytes = 4ULL << 20;
// OpenBSD's kernel copies boot arguments into a 4096-byte buffer.
inline constexpr std::size_t max_openbsd_boot_args_bytes = 4095;
// Tables of an ELF kernel: OpenBSD has about 10 segments and 40 sections, Linux 5 and 80.
inline constexpr std::size_t max_elf_segments = 256;
inline constexpr std::size_t max_elf_sections = 4096;
// OpenBSD's randomize segment holds guard values of a few hundred KiB.
inline constexpr std::uint64_t max_openbsd_random_bytes = 16ULL << 20;
// Linux and PVH: the space kept for a command line in the guest; Linux itself takes 2047.
inline constexpr std::size_t max_command_line_bytes = 65535;

// Console output kept for late readers, per VM.
inline constexpr std::size_t console_ring_bytes = 256 << 10;
inline constexpr std::size_t max_console_readers = 16;
// A console reader that lags this far behind loses the oldest bytes.
inline constexpr std::size_t max_console_backlog_bytes = 64 << 10;

// vmd's protection: three starts, each within this time of the last, and the VM stays down.
inline constexpr unsigned max_quick_restarts = 3;
inline constexpr std::uint64_t quick_restart_ms = 6000;

// HTTP: reference values of httpd(8), tightened for an install server.
inline constexpr std::size_t max_http_head_bytes = 8192;
inline constexpr std::size_t max_http_target_bytes = 4096;
inline constexpr std::size_t max_http_fields = 100;
inline constexpr std::size_t max_http_connections = 1024;
inline constexpr std::size_t max_http_connections_per_address = 32;
inline constexpr std::size_t max_http_requests_per_connection = 1000; // as nginx
inline constexpr std::uint64_t http_head_timeout_ms = 60'000;
inline constexpr std::uint64_t http_idle_timeout_ms = 30'000;
inline constexpr std::uint64_t http_send_stall_timeout_ms = 60'000;
// After the answer: time for the client to close, so that a reset does not eat it.
inline constexpr std::uint64_t http_linger_timeout_ms = 2000;
// For an answer that has to be asked for elsewhere.
inline constexpr std::uint64_t http_answer_timeout_ms = 10'000;
inline constexpr std::size_t max_http_locations = 64;
inline constexpr unsigned max_http_stripped = 64;
// A directory with more names is not listed: a list is made for each request.
inline constexpr std::size_t max_http_listed_files = 16384;
// Of an answer, in each http_send_stall_timeout_ms: 273 bytes a second.
inline constexpr std::uint64_t min_http_sent_bytes = 16 << 10;
// An access log is a file of this host that strangers write to.
inline constexpr unsigned max_http_access_lines_per_second = 1000;
// httpd(8)'s limit; bodies are read only to find the next request.
inline constexpr std::uint64_t max_http_body_bytes = 1 << 20;
// Of a whole body, from its head on.
inline constexpr std::uint64_t http_body_timeout_ms = 60'000;
// A chunk's size with its extensions, and each trailer.
inline constexpr std::size_t max_http_chunk_line_bytes = 256;
// Answers to pipelined requests that wait to be sent; then no further request is read.
inline constexpr std::size_t max_http_unsent_bytes = 256 << 10;
// A guest that asks in a loop must not fill the host's journal.
inline constexpr unsigned max_http_log_lines_per_second = 100;
// Of requests for answer files: a guest that asks in a loop is to be seen, not to fill the log.
inline constexpr unsigned max_answer_log_lines_per_second = 10;
// Site sets: what a file of configuration says, and files beside it.
inline constexpr std::size_t max_site_text_bytes = 64 << 10;
inline constexpr std::size_t max_site_path_bytes = 200; // ustar has room for 255, in two parts
inline constexpr std::size_t max_site_settings = 256;
inline constexpr std::size_t max_site_files = 256;
inline constexpr unsigned max_site_id = 65535;
inline constexpr std::size_t max_site_file_bytes = 4 << 20;
inline constexpr std::size_t max_site_bytes = 2 << 20; // compressed: it goes in one IPC frame
// Fetching sets from a mirror. A signed list of OpenBSD has some 30 lines of 90 bytes.
inline constexpr std::size_t max_set_list_bytes = 64 << 10;
inline constexpr std::size_t max_set_files = 256;
inline constexpr std::size_t max_set_name_bytes = 128;
inline constexpr std::size_t max_signify_key_bytes = 4096;
inline constexpr std::uint64_t max_set_bytes = std::uint64_t{4} << 30; // ten times base78.tgz
inline constexpr unsigned max_fetch_redirects = 5;
inline constexpr std::size_t max_fetch_head_bytes = 16 << 10;
inline constexpr std::size_t fetch_piece_bytes = 128 << 10;
inline constexpr std::uint64_t fetch_connect_timeout_ms = 15'000;
inline constexpr std::uint64_t fetch_stall_timeout_ms = 30'000;
// Of a file, in each fetch_stall_timeout_ms: 546 bytes a second.
inline constexpr std::uint64_t min_fetched_bytes = 16 << 10;
inline constexpr std::uint64_t fetch_retry_pause_ms = 1000;
inline constexpr unsigned max_fetch_tries = 5;      // in a row, without a byte
inline constexpr unsigned max_fetch_restarts = 100; // of a whole fetch

// Metrics are gathered at most this often, however many ask: every process is asked for them.
inline constexpr std::uint64_t metrics_interval_ms = 1000;
// One part of the text on its way to the HTTP role, and one of the JSON on its way to vmctl.
inline constexpr std::size_t metrics_part_bytes = 1 << 20;
inline constexpr std::size_t metrics_part_samples = 4096;

// DHCP: an Ethernet frame's worth; more cannot arrive unfragmented.
inline constexpr std::size_t max_dhcp_packet_bytes = 1472;
// Per guest: a client in its wildest moment (PXE ROM, boot loader, installer one
// after the other) sends a few a second; a loop in a guest costs us no more than this.
inline constexpr unsigned dhcp_messages_per_s = 10;
inline constexpr unsigned dhcp_message_burst = 20;
// Log lines per guest, and per network for everybody unknown: a boot's worth at
// once, then ten a minute.
inline constexpr unsigned dhcp_log_burst = 20;
inline constexpr std::uint64_t dhcp_log_refill_ms = 6000;
// A client that asks for a shorter lease would only renew all the time.
inline constexpr std::uint32_t min_dhcp_lease_s = 60;

// TFTP: boot loaders and kernels, to machines that start. A block fits into one frame.
inline constexpr std::size_t max_tftp_request_bytes = 1024;
inline constexpr std::size_t max_tftp_name_bytes = 255;
inline constexpr std::uint32_t max_tftp_block_bytes = 1468;
// Blocks on their way to one client; boot ROMs have room for few.
inline constexpr std::uint32_t max_tftp_window_blocks = 16;
inline constexpr std::size_t max_tftp_transfers = 256;
// A ROM has one, or two where it asked again from another port.
inline constexpr std::size_t max_tftp_transfers_per_client = 4;
inline constexpr std::uint64_t tftp_timeout_ms = 1000;
inline constexpr std::uint32_t max_tftp_timeout_s = 10; // that a client may ask for
inline constexpr unsigned max_tftp_tries = 6;           // of one window
inline constexpr std::uint64_t max_tftp_transfer_ms = 600'000;
// How long an address that was offered waits for its client, and one that somebody else was found
// to use waits for a next one.
inline constexpr std::uint64_t dhcp_offer_ms = 120'000;
inline constexpr std::uint64_t dhcp_quarantine_ms = 3'600'000;
// Clients that decline all that they are offered must not empty a range: on one network so many at
// once, and no more in the time of a quarantine.
inline constexpr unsigned dhcp_declines = 16;
inline constexpr std::uint64_t dhcp_decline_refill_ms = dhcp_quarantine_ms / dhcp_declines;
// Echo requests before an offer: how long one waits, how long its result holds, and how many may
// be under way; beyond that an offer goes out unchecked.
inline constexpr std::uint64_t dhcp_ping_ms = 1000;
inline constexpr std::uint64_t dhcp_checked_ms = 60'000;
inline constexpr std::size_t max_dhcp_pings = 256;
// RFC 1542 §4.1.1: a relay that has been through more is in a loop.
inline constexpr unsigned max_dhcp_hops = 16;
// Addresses in the ranges of a switch: each that was given out costs some 400 bytes.
inline constexpr std::uint64_t max_dhcp_range_addresses = 1 << 20;
inline constexpr std::size_t max_dhcp_ranges = 64;
inline constexpr std::size_t max_dhcp_relays = 256;
inline constexpr std::size_t max_dhcp_classes = 64;
// What one option may hold: 64 KB of them cannot be sent, 1 KB of one can.
inline constexpr std::size_t max_dhcp_options = 128;
inline constexpr std::size_t max_dhcp_option_bytes = 1024;
// A lease that is over is remembered, so that the client that comes back gets its address again.
inline constexpr std::int64_t dhcp_remembered_s = 90 * 86400;
// Leases in one message of a listing, and in all of them.
inline constexpr std::size_t max_listed_leases = 4 << 20;
inline constexpr std::size_t dhcp_leases_part = 4096;
// Leases that wait for the disk together; when it is slower than that, clients ask again.
inline constexpr std::size_t max_dhcp_unwritten = 16384;

// virtio: the largest queue of the specification is 32768; no device of ours offers more than this.
inline constexpr std::uint16_t max_queue_size = 1024;
// One disk request: drivers stay below 64 MiB (SEG_MAX pages); a larger one would keep a pool
// thread, and the end of the machine, waiting.
inline constexpr std::uint64_t max_block_request_bytes = 64 << 20;
// One discard gives back at most this many ranges of this size; one request to write zeros has one
// range, which a filesystem that cannot do better really writes.
inline constexpr std::uint32_t max_discard_ranges = 16;
inline constexpr std::uint32_t max_discard_sectors = (1U << 30) / 512;
inline constexpr std::uint32_t max_write_zeroes_sectors = (64U << 20) / 512;
// A disk that fails all the time must not fill the host's journal.
inline constexpr std::uint64_t io_failure_log_interval_ms = 10'000;
// Below this a "segmentation offload" only makes the host cut frames; Linux's smallest TCP segment.
inline constexpr std::uint16_t min_segment_bytes = 48;
// The largest frame a guest may send: an IPv4 packet of 65535 bytes behind an Ethernet header.
inline constexpr std::size_t max_guest_frame_bytes = 65550;
// Random bytes for one request; more is a guest that keeps the loop from other work.
inline constexpr std::size_t max_random_request_bytes = 64 << 10;
// Requests of one queue served in one turn of the loop, so that a guest that never stops
// asking does not starve the other devices.
inline constexpr unsigned max_requests_per_turn = 256;
inline constexpr unsigned max_random_requests_per_turn = 16;
inline constexpr unsigned max_frames_per_turn = 64;

// Storage of returned chains that a queue keeps for the next ones: more chains than this are
// seldom in flight, and longer ones are rare. 64 KiB per queue at most.
inline constexpr std::size_t max_spare_chains = 32;
inline constexpr std::size_t max_spare_segments = 128;

// One fw_cfg DMA transfer holds the device lock while it runs; items are tables and small option
// ROMs. A guest takes more in pieces.
inline constexpr std::uint32_t max_fw_cfg_transfer_bytes = 1 << 20;

// A VM that is in the file no more gets its id and addresses back for so long: an operator who
// takes one out for a season finds it unchanged, and a subnet does not fill up with the dead.
inline constexpr std::int64_t remember_days = 90;
// The audit trail: about 10 MiB, and more than a year of what people do; of that no more for each
// user but root, so that nobody can wash away what others did.
inline constexpr std::size_t max_audit_rows = 50'000;
inline constexpr std::size_t max_audit_rows_of_user = 5'000;
inline constexpr std::int64_t audit_keep_days = 400;
inline constexpr std::size_t max_audit_text_bytes = 300; // of each column
// Refused requests of one user that are logged and kept: a burst, and then one each so often.
inline constexpr unsigned refusal_log_burst = 60;
inline constexpr double refusal_log_refill_ms = 1000;
inline constexpr std::size_t max_refused_users = 1024; // counted one by one

} // namespace vmhost::limits
