//! Freezes the built-ins of an instance: what the prelude could do itself, at a third of the cost.
//!
//! May not know what is frozen, nor why. Invariant: no getter runs and nothing is assigned; each
//! object is looked at once.
#![allow(unsafe_code)] // The engine's property tables have no other door.

use rquickjs::{Ctx, Error, Function, Object, Result, Value, qjs};
use std::collections::HashSet;
use std::ffi::c_void;

/// Freezes all objects that can be reached from `roots`, except the global object itself. Tells
/// `prepare` of each before, unless it is a function.
///
/// Most functions have nothing but a length and a name, which cannot be written. Those are only
/// closed: to freeze them would give each a table of its own.
#[allow(clippy::needless_pass_by_value)] // The engine's own signature.
pub(super) fn freeze_reachable<'js>(
    ctx: Ctx<'js>,
    roots: Vec<Value<'js>>,
    prepare: Function<'js>,
) -> Result<()> {
    let mut seen = HashSet::from([address(&ctx.globals())]);
    let mut queue = roots;
    while let Some(value) = queue.pop() {
        let Some(object) = value.as_object().filter(|object| seen.insert(address(object))) else {
            continue;
        };
        let is_function = object.is_function();
        if !is_function {
            prepare.call::<_, ()>((object.clone(),))?;
        }
        let names = Names::of(object)?;
        if is_function && names.list().len() <= 2 {
            close(object)?;
            continue;
        }
        for name in names.list() {
            read(object, name.atom, &mut queue)?;
        }
        queue.extend(object.get_prototype().map(Object::into_value));
        freeze(object)?;
    }
    Ok(())
}

fn address(object: &Object<'_>) -> *const c_void {
    // SAFETY: the value is an object, so it holds a pointer, which is not followed.
    unsafe { qjs::JS_VALUE_GET_PTR(object.as_raw()) }.cast_const()
}

fn close(object: &Object<'_>) -> Result<()> {
    // SAFETY: context and object are alive, and the object belongs to the context.
    let done =
        unsafe { qjs::JS_PreventExtensions(object.ctx().as_raw().as_ptr(), object.as_raw()) };
    if done < 0 { Err(Error::Exception) } else { Ok(()) }
}

fn freeze(object: &Object<'_>) -> Result<()> {
    // SAFETY: as in `close`.
    let done = unsafe { qjs::JS_FreezeObject(object.ctx().as_raw().as_ptr(), object.as_raw()) };
    if done < 0 { Err(Error::Exception) } else { Ok(()) }
}

/// What one property holds, without asking it: its value, or its getter and setter.
fn read<'js>(object: &Object<'js>, name: qjs::JSAtom, into: &mut Vec<Value<'js>>) -> Result<()> {
    let ctx = object.ctx();
    let nothing = qjs::JS_UNDEFINED;
    let mut own =
        qjs::JSPropertyDescriptor { flags: 0, value: nothing, getter: nothing, setter: nothing };
    // SAFETY: as in `close`; the name came from the object and is kept by its `Names`.
    let found = unsafe {
        qjs::JS_GetOwnProperty(ctx.as_raw().as_ptr(), &raw mut own, object.as_raw(), name)
    };
    if found < 0 {
        return Err(Error::Exception);
    }
    for part in [own.value, own.getter, own.setter] {
        // SAFETY: the engine hands over its references to the three, or they are undefined.
        into.push(unsafe { Value::from_raw(ctx.clone(), part) });
    }
    Ok(())
}

/// The names of an object's own properties.
struct Names<'js> {
    ctx: Ctx<'js>,
    table: *mut qjs::JSPropertyEnum,
    length: u32,
}

impl<'js> Names<'js> {
    fn of(object: &Object<'js>) -> Result<Self> {
        let flags = (qjs::JS_GPN_STRING_MASK | qjs::JS_GPN_SYMBOL_MASK).cast_signed();
        let (ctx, table, length) = (object.ctx().clone(), std::ptr::null_mut(), 0);
        let mut names = Self { ctx, table, length };
        // SAFETY: as in `close`; on success the table is ours, on failure nothing is written.
        let done = unsafe {
            qjs::JS_GetOwnPropertyNames(
                names.ctx.as_raw().as_ptr(),
                &raw mut names.table,
                &raw mut names.length,
                object.as_raw(),
                flags,
            )
        };
        if done < 0 { Err(Error::Exception) } else { Ok(names) }
    }

    fn list(&self) -> &[qjs::JSPropertyEnum] {
        if self.table.is_null() {
            return &[];
        }
        // SAFETY: the engine said that so many entries are there, and they stay until `drop`.
        unsafe { std::slice::from_raw_parts(self.table, self.length as usize) }
    }
}

impl Drop for Names<'_> {
    fn drop(&mut self) {
        if !self.table.is_null() {
            let ctx = self.ctx.as_raw().as_ptr();
            // SAFETY: the table is the engine's own and is given back once.
            unsafe { qjs::JS_FreePropertyEnum(ctx, self.table, self.length) }
        }
    }
}
