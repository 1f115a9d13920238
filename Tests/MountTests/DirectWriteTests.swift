import Testing

extension MountTests {
    @Suite("O_DIRECT")
    struct DirectWrites {
        @Test(
            "After an asynchronous O_DIRECT write has been told as done, buffered readers see its bytes",
            arguments: [1, 16])
        func asynchronous(pages: Int) async throws {
            try await MountFixture.use(.folder) { mount in
                // io_setup, io_submit and io_getevents by their numbers, as libaio has them (xfstests 451).
                let text = try await mount.python(
                    """
                    import ctypes, platform, struct
                    SETUP, SUBMIT, EVENTS = {"x86_64": (206, 209, 208), "aarch64": (0, 2, 4)}[platform.machine()]
                    libc = ctypes.CDLL(None, use_errno=True)
                    context = ctypes.c_ulong(0)
                    assert libc.syscall(SETUP, 8, ctypes.byref(context)) == 0, ctypes.get_errno()
                    size = \(pages) * 4096
                    direct = os.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
                    os.ftruncate(direct, size)
                    buffered = os.open("f", os.O_RDONLY)
                    memory = mmap.mmap(-1, size)
                    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
                    over = False
                    def read_on():
                        while not over: os.pread(buffered, size, 0)
                    readers = [threading.Thread(target=read_on) for _ in range(2)]
                    for reader in readers: reader.start()
                    stale = 0
                    try:
                        for number in range(300):
                            memory[:] = struct.pack("<I", number) * (size // 4)
                            # struct iocb: data, key, rw flags, PWRITE, priority, file, buffer, bytes, offset, ...
                            block = ctypes.create_string_buffer(
                                struct.pack("<QIIHhIQQqQII", 0, 0, 0, 1, 0, direct, address, size, 0, 0, 0, 0))
                            pointer = ctypes.c_void_p(ctypes.addressof(block))
                            assert libc.syscall(SUBMIT, context, 1, ctypes.byref(pointer)) == 1, ctypes.get_errno()
                            assert libc.syscall(EVENTS, context, 1, 1, ctypes.create_string_buffer(32), None) == 1
                            if os.pread(buffered, size, 0) != memory[:]: stale += 1
                    finally:
                        over = True
                        for reader in readers: reader.join()
                    print(stale)
                    """)
                #expect(text == "0\n")
            }
        }
    }
}
