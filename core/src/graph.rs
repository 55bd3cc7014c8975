//! Needs of configurations × places of jobs → which job waits for which: names resolved, cycles found.
//!
//! A *place* is a job before its texts are put together: a configuration and a platform, as indexes into the file's, and the
//! board where it is of one. What is run at a board needs what is built there, and follows it at once in the order. The
//! graph is made for the places of every ref, so that what is wrong with it does not depend on who pushes which branch;
//! a push then takes the part that its branch builds.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::json::{At, Position, shown};
use crate::limits::JOBS_MAX;
use crate::ordered::{Map, Set};
use crate::platform;
use crate::repo_spec::{Configuration, Need, RepoSpec, Warning, board_named, job_name};

/// Most needs of all jobs of an event together: each is kept until it is met, some 20 for each of 10 000 jobs.
pub const EDGES_MAX: usize = 200_000;
/// Most configurations of a cycle that its error names.
const SHOWN_MAX: usize = 8;

/// A job before its texts are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of its configuration.
    pub configuration: usize,
    /// Index of its platform.
    pub platform: usize,
    /// Index of its board among those of its configuration on its platform; none for what is built.
    pub board: Option<usize>,
}

impl Place {
    /// Name of the job, as needs and people have it.
    pub fn name(&self, spec: &RepoSpec) -> String {
        job_name(&spec.configurations[self.configuration].name, self.board)
    }
}

/// Which job waits for which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// For each place the indexes of those that it waits for, in order, each once.
    pub needs: Vec<Vec<u32>>,
}

/// The graph of the places of every ref.
///
/// # Errors
/// The file's fault, at the need that names nothing or closes a cycle, or at the configuration with too many.
pub fn link(spec: &RepoSpec, places: &[Place]) -> Result<Graph, At> {
    let mut graph = Graph { needs: vec![Vec::new(); places.len()] };
    let mut built = 0;
    for (index, place) in places.iter().enumerate() {
        match place.board {
            None => built = index as u32,
            Some(_) => graph.needs[index].push(built),
        }
    }
    let Some(first) = spec.configurations.iter().find(|configuration| !configuration.needs.is_empty()) else {
        return Ok(graph);
    };
    if places.len() > JOBS_MAX {
        let expected = format!("at most {JOBS_MAX} jobs of all branches together where a configuration has needs");
        return Err(first.at.expected(expected).about(&path_of(first)));
    }
    let mut named: Map<&str, usize> = Map::new();
    for (index, configuration) in spec.configurations.iter().enumerate() {
        named.insert(&configuration.name, index);
    }
    // Places are in the order of their configurations, so that those of one are a range.
    let range = |configuration: usize| {
        let start = places.partition_point(|place| place.configuration < configuration);
        start..places.partition_point(|place| place.configuration <= configuration)
    };
    let mut alike: Map<&str, Vec<usize>> = Map::new();
    for (index, platform) in spec.platforms.iter().enumerate() {
        alike.get_or_default(platform.name.as_str()).push(index);
    }
    let mut edges = 0;
    for (index, configuration) in spec.configurations.iter().enumerate() {
        for need in &configuration.needs {
            let candidates = candidates(spec, places, &named, configuration, need, &range)?;
            // They are in the order of their platforms, as all places of a configuration are, and one of each.
            let on = |platform: usize| {
                candidates
                    .binary_search_by_key(&platform, |place| places[*place].platform)
                    .map(|found| candidates[found])
            };
            // What is run at boards waits for its build, which waits for these.
            for waits in range(index).filter(|place| places[*place].board.is_none()) {
                // The same platform where the need is built on it, the very entry before those of the same name, else all.
                let platform = places[waits].platform;
                let mut met: Vec<usize> = on(platform).into_iter().collect();
                if met.is_empty() {
                    let namesakes = alike.get(spec.platforms[platform].name.as_str()).into_iter().flatten();
                    met.extend(namesakes.filter_map(|platform| on(*platform).ok()));
                }
                let met = if met.is_empty() { &candidates } else { &met };
                edges += met.len();
                if edges > EDGES_MAX {
                    let expected = format!("at most {EDGES_MAX} needs of all jobs together");
                    return Err(need.at.expected(expected).about(&needs_of(configuration)));
                }
                for need in met {
                    let list = &mut graph.needs[waits];
                    if let Err(at) = list.binary_search(&(*need as u32)) {
                        list.insert(at, *need as u32);
                    }
                }
            }
        }
    }
    acyclic(spec, places, &graph)?;
    Ok(graph)
}

/// The places that a need names, at least one.
fn candidates(
    spec: &RepoSpec,
    places: &[Place],
    named: &Map<&str, usize>,
    configuration: &Configuration,
    need: &Need,
    range: &impl Fn(usize) -> core::ops::Range<usize>,
) -> Result<Vec<usize>, At> {
    let wrong = |expected: String| Err(need.at.expected(expected).about(&needs_of(configuration)));
    let find = |name: &str| {
        let whole = named.get(name).map(|index| (*index, None));
        whole.or_else(|| board_named(name).and_then(|(name, board)| Some((*named.get(name)?, Some(board)))))
    };
    // A name may have an `@` in it; no platform has.
    let whole = find(&need.text).map(|found| (found, None));
    let parts = need.text.rsplit_once('@');
    let parted = parts.and_then(|(name, platform)| Some((find(name)?, Some(platform))));
    let Some(((wanted, board), platform)) = whole.or(parted) else {
        return wrong(format!("the name of a configuration of this file, found `{}`", shown(&need.text)));
    };
    let serves = |index: &usize| match platform {
        None => true,
        Some(name) => platform::serves(&spec.platforms[places[*index].platform].name, name),
    };
    let found: Vec<usize> = range(wanted).filter(|index| places[*index].board == board).filter(serves).collect();
    match platform {
        _ if !found.is_empty() => Ok(found),
        Some(platform) => {
            let name = job_name(&spec.configurations[wanted].name, board);
            let done = if board.is_some() { "run" } else { "built" };
            wrong(format!("a platform on which `{}` is {done}, found `{}`", shown(&name), shown(platform)))
        }
        None if board.is_some() => {
            let name = &spec.configurations[wanted].name;
            wrong(format!("a board on which `{}` is run, found `{}`", shown(name), shown(&need.text)))
        }
        None => wrong(format!("a configuration that is built on some platform, found `{}`", shown(&need.text))),
    }
}

/// Those that wait for a cycle or are in one: what is left when, again and again, what waits for nothing is taken away.
pub fn unending(needs: &[impl AsRef<[u32]>]) -> Set<usize> {
    let mut waits: Vec<usize> = needs.iter().map(|needs| needs.as_ref().len()).collect();
    let mut dependants: Vec<Vec<u32>> = vec![Vec::new(); needs.len()];
    for (place, needs) in needs.iter().enumerate() {
        for need in needs.as_ref() {
            dependants[*need as usize].push(place as u32);
        }
    }
    let mut free: Vec<usize> = (0..needs.len()).filter(|place| waits[*place] == 0).collect();
    while let Some(place) = free.pop() {
        for dependant in &dependants[place] {
            let dependant = *dependant as usize;
            waits[dependant] -= 1;
            if waits[dependant] == 0 {
                free.push(dependant);
            }
        }
    }
    Set::from_iter((0..needs.len()).filter(|place| waits[*place] > 0))
}

/// Looks for a cycle.
fn acyclic(spec: &RepoSpec, places: &[Place], graph: &Graph) -> Result<(), At> {
    let left = unending(&graph.needs);
    let Some(start) = left.first().copied() else { return Ok(()) };
    // Whoever is left waits for one that is left: going there as many times as there are places ends inside a cycle.
    let next = |place: usize| {
        graph.needs[place].iter().map(|need| *need as usize).find(|need| left.contains(need)).unwrap_or(place)
    };
    let inside = (0..places.len()).fold(start, |place, _| next(place));
    let mut cycle = vec![inside];
    let mut place = next(inside);
    while place != inside {
        cycle.push(place);
        place = next(place);
    }
    let configuration = |place: usize| &spec.configurations[places[place].configuration];
    // It is told from the configuration that comes first in the file, whichever was met first: that is never what is run at a
    // board, which waits for its build alone.
    let (first, _) = cycle.iter().enumerate().min_by_key(|(_, place)| **place).unwrap_or((0, &inside));
    cycle.rotate_left(first);
    let at = configuration(cycle[0]).needs.first().map_or(Position::START, |need| need.at);
    let mut names: Vec<String> =
        cycle.iter().take(SHOWN_MAX).map(|place| shown(&places[*place].name(spec)).to_string()).collect();
    if cycle.len() > SHOWN_MAX {
        names.push("…".to_string());
    }
    names.push(shown(&places[cycle[0]].name(spec)).to_string());
    let expected = format!("needs without a cycle, found {}", names.join(" → "));
    Err(at.expected(expected).about(&needs_of(configuration(cycle[0]))))
}

/// Takes the part of a graph whose configurations are built: the indexes of the places that stay, their needs as indexes
/// among those, and a warning for each configuration of which a job goes because a need of it does.
pub fn take(
    spec: &RepoSpec,
    places: &[Place],
    graph: &Graph,
    built: impl Fn(&Configuration) -> bool,
) -> (Vec<usize>, Vec<Vec<u32>>, Vec<Warning>) {
    let wanted: Vec<bool> = places.iter().map(|place| built(&spec.configurations[place.configuration])).collect();
    let mut stays: Vec<Option<bool>> = vec![None; places.len()];
    let mut missing: Map<usize, usize> = Map::new();
    // Depth first, without recursion: a chain may be as long as there are jobs.
    for start in 0..places.len() {
        let mut path = vec![start];
        while let Some(place) = path.last().copied() {
            if stays[place].is_some() {
                path.pop();
                continue;
            }
            if !wanted[place] {
                stays[place] = Some(false);
                continue;
            }
            let needs = || graph.needs[place].iter().map(|need| *need as usize);
            if let Some(open) = needs().find(|need| stays[*need].is_none()) {
                path.push(open);
                continue;
            }
            let gone = needs().find(|need| stays[*need] == Some(false));
            if let Some(need) = gone {
                missing.get_or_insert_with(places[place].configuration, || need);
            }
            stays[place] = Some(gone.is_none());
        }
    }
    let kept: Vec<usize> = (0..places.len()).filter(|place| stays[*place] == Some(true)).collect();
    let number = |place: &u32| kept.binary_search(&(*place as usize)).ok().map(|index| index as u32);
    let needs = kept.iter().map(|place| graph.needs[*place].iter().filter_map(number).collect()).collect();
    let warning = |(waits, need): (&usize, &usize)| {
        let configuration = &spec.configurations[*waits];
        let Position { line, column, .. } = configuration.needs.first().map_or(configuration.at, |need| need.at);
        let need = places[*need].name(spec);
        let text = format!(
            "{}: `{}` is not built on this branch, so what needs it is not built either",
            needs_of(configuration),
            shown(&need)
        );
        Warning { line, column, text }
    };
    (kept, needs, missing.iter().map(warning).collect())
}

/// Those of some jobs that are chosen, and all that they need: their indexes, and their needs as indexes among those.
pub fn with_needs(needs: &[Vec<u32>], chosen: impl Fn(usize) -> bool) -> (Vec<usize>, Vec<Vec<u32>>) {
    let mut waiting: Vec<usize> = (0..needs.len()).filter(|index| chosen(*index)).collect();
    let mut kept: Set<usize> = waiting.iter().copied().collect();
    while let Some(index) = waiting.pop() {
        let further = needs[index].iter().map(|need| *need as usize).filter(|need| kept.insert(*need));
        waiting.extend(further);
    }
    let kept: Vec<usize> = kept.into_iter().collect();
    let number = |need: &u32| kept.binary_search(&(*need as usize)).ok().map(|index| index as u32);
    let needs = kept.iter().map(|index| needs[*index].iter().filter_map(number).collect()).collect();
    (kept, needs)
}

fn path_of(configuration: &Configuration) -> String {
    format!("configurations.{}", shown(&configuration.name))
}

fn needs_of(configuration: &Configuration) -> String {
    format!("{}.needs", path_of(configuration))
}
