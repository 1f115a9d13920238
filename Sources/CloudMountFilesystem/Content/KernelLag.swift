import CloudMountVFS

/// The kernel may believe that a file is longer than it is.
///
/// It fills up the pages of a short answer with zeros and takes the answer's end for the file's, but only if it has heard nothing of the
/// file since it asked. Else it goes on believing in the size that it knows, and shows the zeros. So a short answer is given only to
/// who is known to have asked after the kernel was last told something; and none at all to who asks beyond the end, because of that the
/// kernel would take the place where he asks for the end of the file.
///
/// The proof: while the kernel waits for an answer it keeps the pages locked that it has asked for. Who asks for the page of the end after
/// somebody has been refused it asks after that refusal. The kernel does so by itself: what a read ahead did not get, it asks for page by page.
struct KernelLag: Sendable {
    /// Else it is only about to be told that what it knows of the file has changed.
    let believesInMore: Bool
    /// Those who are about to tell it; reads wait.
    private var tellers = 1
    /// The end at which somebody has been refused since.
    private var refusedEnd: Int?

    init(believesInMore: Bool, before: KernelLag?) {
        self.believesInMore = believesInMore || before?.believesInMore ?? false
        tellers += before?.tellers ?? 0
    }

    var isBeingTold: Bool { tellers > 0 }

    mutating func isTold() { tellers -= 1 }

    /// - Parameter wanted: what the kernel asks for of a file of `size` bytes.
    mutating func refuses(_ wanted: Extent, size: Int) -> Bool {
        if wanted.upperBound <= size { return false }
        if wanted.lowerBound <= size, refusedEnd == size { return false }
        if wanted.lowerBound <= size { refusedEnd = size }
        return true
    }
}

extension VFSError {
    /// The kernel believes in a longer file.
    static var isShorter: VFSError { VFSError(.stale, "the file has become shorter") }
}
