fn main() {
    let f = std::env::args().nth(1).unwrap();
    let t = std::fs::read_to_string(f).unwrap();
    let s = std::time::Instant::now();
    let i = inlet_import::tproxy(&t, &Default::default()).unwrap();
    let e = s.elapsed();
    let mut o = Vec::new();
    i.write_toml(&mut o).unwrap();
    let st = std::fs::read_to_string("/proc/self/status").unwrap();
    let hwm = st.lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned();
    eprintln!(
        "{e:?} all {:?} {hwm} {} bytes {} lines left {}",
        s.elapsed(),
        o.len(),
        o.iter().filter(|c| **c == 10).count(),
        i.left.len()
    );
}
