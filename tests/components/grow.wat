;; Takes memory, a megabyte at a time.
(component
(core module $m
    (memory 1)
    (func (export "grow") (result i32)
        (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        i32.const 1))
(core instance $i (instantiate $m))
(func (export "grow") (result (result)) (canon lift (core func $i "grow"))))
