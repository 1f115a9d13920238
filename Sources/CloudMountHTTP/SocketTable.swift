import CCurl
import CloudMountPlatform
import Glibc

/// libcurl's sockets and how each is watched. Confined to the transfer thread.
///
/// libcurl wants a socket watched when a request begins and no more when it ends. A kept-alive one is told to the kernel
/// once and stays watched while idle: changes are applied before the next wait, and only those that matter.
final class SocketTable {
    private struct Entry {
        /// `CURL_POLL_IN` and `CURL_POLL_OUT`, as libcurl wants them now.
        var wanted: Int32 = 0
        /// The same as the kernel has them.
        var watched: Int32 = 0
        /// Opened by `open`, so that `close` will tell of its end. Any other may vanish unseen.
        var isOurs = false
        var isChanged = false
    }

    private let poller: Poller
    private let tally: TransferTally
    private var entries = [Entry](repeating: Entry(), count: 64)
    private var changed: [Int32] = []

    init(_ poller: Poller, _ tally: TransferTally) {
        self.poller = poller
        self.tally = tally
    }

    // SAFETY: the pointer is that of the loop's table, which lives as long as the process.
    static func at(_ user: UnsafeMutableRawPointer?) -> SocketTable {
        Unmanaged<SocketTable>.fromOpaque(user.unsafelyUnwrapped).takeUnretainedValue()
    }

    /// `CURLOPT_OPENSOCKETFUNCTION`. The descriptor is not inherited by the programs that the daemon starts.
    func open(_ address: UnsafeMutablePointer<curl_sockaddr>?) -> curl_socket_t {
        guard let address = address?.pointee else { return -1 }
        let flags = Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let fd = socket(address.family, address.socktype | flags, address.protocol)
        guard fd >= 0 else { return -1 }
        tally.connectionsOpened.add(1)
        grow(to: fd)
        entries[Int(fd)] = Entry(isOurs: true)
        return fd
    }

    /// `CURLOPT_CLOSESOCKETFUNCTION`.
    func close(_ fd: curl_socket_t) -> Int32 {
        if fd >= 0, Int(fd) < entries.count { entries[Int(fd)] = Entry() }
        return Glibc.close(fd)
    }

    /// `CURLMOPT_SOCKETFUNCTION`.
    func want(_ fd: curl_socket_t, _ what: Int32) {
        guard fd >= 0 else { return }
        grow(to: fd)
        let index = Int(fd)
        if what == CURL_POLL_REMOVE, !entries[index].isOurs {
            if entries[index].watched != 0 { poller.remove(fd) }
            entries[index] = Entry()
            return
        }
        entries[index].wanted = what == CURL_POLL_REMOVE ? 0 : what & CURL_POLL_INOUT
        if !entries[index].isChanged {
            entries[index].isChanged = true
            changed.append(fd)
        }
    }

    /// Tells the kernel what has changed; before each wait.
    func applyWishes() {
        for fd in changed {
            let index = Int(fd)
            guard entries[index].isChanged else { continue }
            entries[index].isChanged = false
            let (wanted, watched) = (entries[index].wanted, entries[index].watched)
            // Watching a little more than wanted is harmless, unless it is room to write, which is always there.
            if wanted == watched || (wanted == 0 && watched == CURL_POLL_IN) { continue }
            if wanted == 0 {
                poller.remove(fd)
                entries[index].watched = 0
            } else {
                watch(fd, wanted)
            }
        }
        changed.removeAll(keepingCapacity: true)
    }

    private func watch(_ fd: Int32, _ wanted: Int32) {
        var interest: Poller.Interest = []
        if wanted & CURL_POLL_IN != 0 { interest.insert(.read) }
        if wanted & CURL_POLL_OUT != 0 { interest.insert(.write) }
        let isNew = entries[Int(fd)].watched == 0
        entries[Int(fd)].watched = poller.set(fd, interest, isNew: isNew) ? wanted : 0
    }

    /// What libcurl is to be told about an event: `CURL_CSELECT_IN` and `CURL_CSELECT_OUT`; 0 when it does not care.
    func selected(_ fd: Int32, _ ready: Poller.Interest) -> Int32 {
        let index = Int(fd)
        guard index < entries.count else { return 0 }
        let wanted = entries[index].wanted
        if wanted == 0 {
            // Bytes for a paused transfer, or the end of an idle connection: it would be reported for ever.
            if entries[index].watched != 0 { poller.remove(fd) }
            entries[index].watched = 0
            return 0
        }
        let broken = !ready.isDisjoint(with: [.error, .hangUp])
        var selected: Int32 = 0
        if ready.contains(.read) || broken, wanted & CURL_POLL_IN != 0 { selected |= CURL_CSELECT_IN }
        if ready.contains(.write) || broken, wanted & CURL_POLL_OUT != 0 { selected |= CURL_CSELECT_OUT }
        return selected
    }

    private func grow(to fd: Int32) {
        while entries.count <= Int(fd) {
            entries.append(contentsOf: repeatElement(Entry(), count: entries.count))
        }
    }
}
